"""Packed files of today can be read tomorrow, and on another machine.

`golden.pqdz` was written when version 1 of the format was new. Should a test here fail, the reader has changed: mend
it, or give the changed codec a new name and keep the old one. The file is replaced with a new version of the format
only.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

import numpy as np
from pack_kit import MEGABYTES

from pqd_pack import codecs, weights
from pqd_pack.container import unseal
from pqd_pack.logits import SHARES, logit, odds_of_classes
from pqd_pack.packing import unpack
from pqd_pack.sizes import SIXTEENTHS
from pqd_pack.zeros import CLASSES, WIDTH

GOLDEN = Path(__file__).parent / "golden.pqdz"
PACKED = "a36d555cb85fb56884646abd682f1edc7f04f79a9d7105a90b8dfca500b4e958"
UNPACKED = {
    "model.onnx": "7143087eed64b3daacb8a9971e524f4239c0b31f66c06aa4f61c968600eb9878",
    "notes.txt": "191952c5ddc83216069bb9d1ea1d56293bb433e80aa0753579ef906503affc2f",
}
LOGITS = "2506d49d890a1994380daf1bbc5a69b3b34744fa4cb9dd8e3444c788151cdca8"
ODDS = "f0a51825711e430b08ad660d152552633469662cd0715de6bac43ad288a6d3f8"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_golden_file_unpacks_to_what_was_packed() -> None:
    packed = GOLDEN.read_bytes()
    assert digest(packed) == PACKED
    assert {name: digest(data) for name, data in unpack(packed, MEGABYTES).items()} == UNPACKED


def test_the_golden_file_has_every_codec() -> None:
    header, _ = unseal(GOLDEN.read_bytes(), MEGABYTES)  # itself a zstd frame
    assert {codec for codec, _ in header.streams} | {"zstd"} == {*codecs.CODECS, *weights.CODECS}


def test_tables_are_the_same_on_every_machine() -> None:
    assert digest(logit(np.arange(SHARES + 1)).astype("<i8").tobytes()) == LOGITS
    assert digest(odds_of_classes(CLASSES, WIDTH).astype("<f8").tobytes()) == ODDS
    assert [round(2**20 / Decimal(2) ** (Decimal(n) / 16)) for n in range(16)] == list(SIXTEENTHS)
