"""Packed files of today can be read tomorrow, and on another machine.

`golden.pqdz` was written when version 1 of the format was new, `golden-2.pqdz` when version 2 was. Should a test here
fail, the reader has changed: mend it, or give the changed codec a new name and keep the old one. A new version of the
format gets a file of its own; none is ever replaced.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from pack_kit import MEGABYTES

from pqd_pack import codecs, floats, weights
from pqd_pack.container import unseal
from pqd_pack.logits import SHARES, logit, odds_of_classes
from pqd_pack.packing import unpack
from pqd_pack.sizes import SIXTEENTHS
from pqd_pack.zeros import CLASSES, WIDTH

FOLDER = Path(__file__).parent
PACKED = {
    "golden.pqdz": "a36d555cb85fb56884646abd682f1edc7f04f79a9d7105a90b8dfca500b4e958",
    "golden-2.pqdz": "738f0ee42a51e3ade04bb1f989039a2ab4a08cc8937f84f577f8677a674d6937",
}
UNPACKED = {
    "golden.pqdz": {
        "model.onnx": "7143087eed64b3daacb8a9971e524f4239c0b31f66c06aa4f61c968600eb9878",
        "notes.txt": "191952c5ddc83216069bb9d1ea1d56293bb433e80aa0753579ef906503affc2f",
    },
    "golden-2.pqdz": {"model.onnx": "fac0d508353722452733a6030e19081c749a114929f54126644c25bd9e4edec4"},
}
LOGITS = "2506d49d890a1994380daf1bbc5a69b3b34744fa4cb9dd8e3444c788151cdca8"
ODDS = "f0a51825711e430b08ad660d152552633469662cd0715de6bac43ad288a6d3f8"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", PACKED)
def test_a_golden_file_unpacks_to_what_was_packed(name: str) -> None:
    packed = (FOLDER / name).read_bytes()
    assert digest(packed) == PACKED[name]
    assert {part: digest(data) for part, data in unpack(packed, MEGABYTES).items()} == UNPACKED[name]


def test_the_golden_files_have_every_codec() -> None:
    first, second = (unseal((FOLDER / name).read_bytes(), MEGABYTES) for name in PACKED)
    assert (first.version, second.version) == (1, 2)
    every = {codec for codec, _ in first.header.streams} | {"zstd"}  # the header itself
    assert every == {*codecs.CODECS, *weights.CODECS}
    streams = zip(second.header.streams, second.streams, strict=True)
    of_floats = [bytes(data) for (codec, _), data in streams if codec == floats.NAME]
    assert {data[0] for data in of_floats} == set(range(len(floats.OF_KINDS)))


def test_tables_are_the_same_on_every_machine() -> None:
    assert digest(logit(np.arange(SHARES + 1)).astype("<i8").tobytes()) == LOGITS
    assert digest(odds_of_classes(CLASSES, WIDTH).astype("<f8").tobytes()) == ODDS
    assert [round(2**20 / Decimal(2) ** (Decimal(n) / 16)) for n in range(16)] == list(SIXTEENTHS)
