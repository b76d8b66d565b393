"""The bytes of a packed file: a preamble, a header, streams, and a digest of it all.

    0   8  magic
    8   2  version of the format
    10  2  zero
    12  4  bytes of the header as it is stored
    16  4  bytes of the header as JSON
    20  .  the header, one zstd frame
        .  the streams, one after another
        32 sha-256 of everything before

Numbers are unsigned and little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

from attrs import frozen
from pydantic import ValidationError

from pqd_pack.codecs import expand, zstd
from pqd_pack.damage import RAISE_LIMIT, Damaged, TooLarge
from pqd_pack.header import Header

MAGIC = b"\x89PQDZ\r\n\x1a"
"""A byte that is no text, and line ends of both kinds: a transfer that changes them shows at once."""
VERSION, READ = 2, (1, 2)
"""What is written, and what can be read."""
PREAMBLE = struct.Struct("<8sHHII")
DIGEST_BYTES = 32
LARGEST_HEADER = 4 * 2**20


@frozen
class Sealed:
    """A packed file, apart."""

    version: int
    header: Header
    streams: list[memoryview]


def seal(header: Header, streams: Sequence[bytes]) -> bytes:
    """The bytes of the packed file."""
    told = header.model_dump_json().encode()
    stored = zstd(told)
    preamble = PREAMBLE.pack(MAGIC, VERSION, 0, len(stored), len(told))
    whole = b"".join([preamble, stored, *streams])
    return whole + hashlib.sha256(whole).digest()


def unseal(data: bytes, largest: int) -> Sealed:
    """The header and the streams that `seal` was given.

    Raises:
        Damaged: these are not the bytes of a packed file.
        TooLarge: its files are longer than `largest` bytes.
    """
    version, stored, told = _preamble(data)
    whole, digest = memoryview(data)[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if hashlib.sha256(whole).digest() != digest:
        raise Damaged("its checksum does not match its content")
    end = PREAMBLE.size + stored
    header = _header(bytes(whole[PREAMBLE.size : end]), told)
    if header.size > largest:
        raise TooLarge(f"it unpacks to {header.size / 2**20:,.0f} MB, more than the limit", RAISE_LIMIT)
    return Sealed(version, header, _streams(header, whole[end:]))


def _preamble(data: bytes) -> tuple[int, int, int]:
    if not data.startswith(MAGIC):
        raise Damaged("it is no file that pqd pack has written")
    if len(data) < PREAMBLE.size + DIGEST_BYTES:
        raise Damaged("it ends within its preamble")
    _, version, zero, stored, told = PREAMBLE.unpack_from(data)
    if version not in READ or zero:
        raise Damaged(f"it has version {version} of the format, and this pqd reads up to {VERSION}; use a newer pqd")
    if told > LARGEST_HEADER:
        raise TooLarge(f"its header is {told / 2**20:,.0f} MB long")
    return version, stored, told


def _header(stored: bytes, size: int) -> Header:
    try:
        return Header.model_validate_json(expand("zstd", stored, size))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Damaged(f"its header is wrong at {place or 'its start'}: {first['msg']}") from error


def _streams(header: Header, payload: memoryview) -> list[memoryview]:
    sizes = [size for _, size in header.streams]
    if sum(sizes) != len(payload):
        raise Damaged("its header and its length do not agree")
    return [payload[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]
