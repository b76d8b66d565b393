"""A packed file from a stranger is read within bounds, or refused with a reason; nothing else happens."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_kit import MEGABYTES, about, forged, onnx_file, sparse_weight

from pqd_pack import rows, weights
from pqd_pack.account import account
from pqd_pack.container import DIGEST_BYTES
from pqd_pack.damage import Damaged, TooLarge
from pqd_pack.packing import pack, unpack

FILES = {"model.onnx": onnx_file(sparse_weight(16, 8, 3, 3), sparse_weight(10, 64))}
PACKED = pack(FILES)
SHORT = {"zeros": b"\0" * 100}


@pytest.mark.parametrize("length", [0, 1, 7, 8, 19, 20, 51, 52, 100, len(PACKED) - 1])
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(Damaged):
        unpack(PACKED[:length], MEGABYTES)


@given(st.integers(0, 8 * len(PACKED) - 1))
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    spoilt = bytearray(PACKED)
    spoilt[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Damaged, TooLarge)):
        unpack(bytes(spoilt), MEGABYTES)


def resealed(data: bytes) -> bytes:
    return data + hashlib.sha256(data).digest()


@given(st.lists(st.tuples(st.integers(20, len(PACKED) - DIGEST_BYTES - 1), st.integers(0, 255)), min_size=1))
@settings(max_examples=120, deadline=None)
def test_changes_under_a_right_checksum_end_in_damage_or_in_the_same_bytes(changes: list[tuple[int, int]]) -> None:
    spoilt = bytearray(PACKED[:-DIGEST_BYTES])
    for place, value in changes:
        spoilt[place] = value
    with suppress(Damaged, TooLarge):
        assert list(unpack(resealed(bytes(spoilt)), MEGABYTES).values()) == list(FILES.values())


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, PACKED[:8] + noise, PACKED[:20] + noise, forged(noise)):
        with pytest.raises((Damaged, TooLarge)):
            unpack(data, MEGABYTES)


def test_what_is_no_packed_file_is_called_so() -> None:
    with pytest.raises(Damaged, match="no file that pqd pack has written"):
        unpack(b"PK\x03\x04" + b"\0" * 100, MEGABYTES)


def test_a_version_of_the_future_asks_for_a_newer_pqd() -> None:
    with pytest.raises(Damaged, match=r"version 3 .* reads up to 2; use a newer pqd"):
        unpack(forged({"something": "new"}, version=3), MEGABYTES)


TERABYTE = 2**40
HOSTILE: dict[str, tuple[Any, str]] = {
    "a terabyte in one file": ({"files": [about(size=TERABYTE)], "streams": [["zstd", 0]]}, "1,048,576 MB"),
    "a terabyte in one tensor": (
        {"files": [about(size=TERABYTE, tensors=[[0, "i8", [2**20, 2**20]]])], "streams": [["zstd", 0], ["range", 0]]},
        "1,048,576 MB",
    ),
    "more than numbers can say": ({"files": [about(size=2**63)], "streams": []}, "less than or equal"),
    "a huge shape": ({"files": [about(size=9, tensors=[[0, "i8", [2**31] * 16]])], "streams": []}, "more tensors than"),
    "a negative size": ({"files": [about(size=-1)], "streams": []}, "greater than or equal"),
    "a negative gap": ({"files": [about(size=9, tensors=[[-5, "i8", [1]]])], "streams": []}, "greater than or equal"),
    "a path": ({"files": [about("../../etc/passwd")], "streams": []}, "no plain file name"),
    "an absolute path": ({"files": [about("/etc/passwd")], "streams": []}, "no plain file name"),
    "a path of Windows": ({"files": [about("..\\x")], "streams": []}, "no plain file name"),
    "the folder itself": ({"files": [about("..")], "streams": []}, "no plain file name"),
    "a name with a null byte": ({"files": [about("a\0b")], "streams": []}, "no plain file name"),
    "a name with terminal codes": ({"files": [about("a\x1b[2Jb")], "streams": []}, "no plain file name"),
    "two files of one name": ({"files": [about("a"), about("A")], "streams": []}, "two files have one name"),
    "no file": ({"files": [], "streams": []}, "at least 1"),
    "an unknown key": ({"files": [about(more=1)], "streams": []}, "Extra inputs"),
    "an unknown codec": ({"files": [about(size=1)], "streams": [["pickle", 0]]}, "pickle"),
    "an unknown dtype": ({"files": [about(size=9, tensors=[[0, "object", [1]]])], "streams": []}, "Input should be"),
    "a stream too few": ({"files": [about(size=1)], "streams": []}, "streams that its files do not have"),
    "a stream too many": (
        {"files": [about()], "streams": [["stored", 0], ["stored", 0]]},
        "streams that its files do not have",
    ),
    "longer streams than there are bytes": ({"files": [about()], "streams": [["stored", 9]]}, "do not agree"),
    "a file shorter than it says": ({"files": [about(size=5)], "streams": [["stored", 0]]}, "0 bytes in place of 5"),
    "another file than it says": ({"files": [about()], "streams": [["stored", 0]]}, "does not match its checksum"),
    "a header that is no JSON": (b"{", "its header is wrong"),
    "a header of lists in lists": (b"[" * 100_000, "its header is wrong"),
}


@pytest.mark.parametrize(("header", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_forged_header_is_refused_at_once_and_in_little_memory(header: Any, reason: str) -> None:
    data, began = forged(header), time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises((Damaged, TooLarge), match=reason):
            unpack(data, MEGABYTES)
        assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTES
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 5


def test_a_header_that_claims_to_be_short_is_not_unpacked_further() -> None:
    bomb = forged(b" " * (256 * MEGABYTES), told=10)
    assert len(bomb) < 100_000
    tracemalloc.start()
    with pytest.raises(Damaged, match="11 bytes in place of 10"):
        unpack(bomb, MEGABYTES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * MEGABYTES


def test_a_header_that_claims_to_be_long_is_not_read() -> None:
    with pytest.raises(TooLarge, match="its header is 4,095 MB long"):
        unpack(forged(b" ", told=2**32 - 2**20), MEGABYTES)


@pytest.mark.parametrize("codec", ["stored", "zstd", "lzma", "range"])
def test_a_stream_that_would_go_on_for_ever_ends_where_its_file_does(codec: str) -> None:
    from pqd_pack.codecs import CODECS

    long = CODECS[codec].shrink(b"\0" * (8 * MEGABYTES))
    with pytest.raises(Damaged):
        unpack(forged({"files": [about(size=10)], "streams": [[codec, len(long)]]}, long), MEGABYTES)


def test_shapes_that_are_made_to_take_hours_are_refused() -> None:
    tensors = [[0, "i8", [2**12, 1, 2**4]]] * 32
    size, streams = 32 * 2**16, [["stored", 0], *[["rows", 12]] * 32]
    hostile = forged({"files": [about(size=size, tensors=tensors)], "streams": streams}, b"\x01\x01\0\x01\0" * 90)
    began = time.perf_counter()
    with pytest.raises((Damaged, TooLarge)):
        unpack(hostile, 4 * MEGABYTES)
    assert time.perf_counter() - began < 30
    with pytest.raises(TooLarge, match="would take hours"):
        weights.expand("rows", b"", (2**19, 1), weights.Turns(2**20))
    with pytest.raises(TooLarge, match="would take hours"):
        weights.expand("rows", b"", (1, 2**30), weights.Turns(2**30))


ROWS = rows.encode(sparse_weight(24, 16, 3, 3))


@given(st.binary(min_size=rows.HEAD.size, max_size=60))
@settings(max_examples=50, deadline=None)
def test_noise_in_place_of_a_weight_ends_in_damage_or_in_some_weight(noise: bytes) -> None:
    for data in (noise, ROWS[: rows.HEAD.size] + noise, b"\x7f\x08\x04\x80\x00" + noise):
        with suppress(Damaged):
            assert rows.decode(data, (9, 5, 3)).shape == (135,)


@given(st.integers(0, len(ROWS) - 1), st.integers(0, 255))
@settings(max_examples=50, deadline=None)
def test_a_changed_byte_of_a_weight_ends_in_damage_or_in_another_weight(place: int, value: int) -> None:
    with suppress(Damaged):
        assert rows.decode(ROWS[:place] + bytes([value]) + ROWS[place + 1 :], (24, 16, 3, 3)).shape == (24 * 16 * 9,)


def test_an_account_decodes_nothing_but_is_as_strict() -> None:
    for header, _ in HOSTILE.values():
        with suppress(Damaged, TooLarge):
            account(forged(header), MEGABYTES)


def test_the_limit_is_on_all_files_together() -> None:
    files = dict.fromkeys(("a", "b"), b"\x00" * MEGABYTES)
    assert unpack(pack(files), 2 * MEGABYTES) == files
    with pytest.raises(TooLarge, match="unpacks to 2 MB"):
        unpack(pack(files), 2 * MEGABYTES - 1)
