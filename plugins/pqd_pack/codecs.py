"""Bytes made small by the codec that does it best: scales, biases, graphs, and whatever else is in a file."""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable

import numpy as np
import zstandard
from attrs import frozen

from pqd_pack.damage import Damaged
from pqd_pack.plain import decode, encode

TRIED_WHOLE = 2**20
"""Longer data is judged by so many bytes of its beginning."""
WINDOW = 64 * 2**20
"""The most memory for what has been decoded already that a reader grants; a writer uses no more."""


@frozen
class Codec:
    """Two functions that undo each other; `expand(data, size)` gives `size` bytes or raises."""

    shrink: Callable[[bytes], bytes]
    expand: Callable[[bytes, int], bytes]


def _filters(size: int) -> list[dict[str, int]]:
    window = min(max(size, 4096), WINDOW)
    return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window}]


def _lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=_filters(len(data)))


def _unlzma(data: bytes, size: int) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(size))
    found = decompressor.decompress(data, max_length=size)
    if not decompressor.eof and len(found) == size:  # the end mark itself may be unread
        found += decompressor.decompress(b"", max_length=1)
    return found


def zstd(data: bytes) -> bytes:
    """`data` as one zstd frame."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, source_size=len(data), write_content_size=False, write_checksum=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def _unzstd(data: bytes, size: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(io.BytesIO(data)) as reader:
        return reader.read(size + 1)


def _ranged(data: bytes) -> bytes:
    return encode(np.frombuffer(data, np.uint8))


def _unranged(data: bytes, size: int) -> bytes:
    return decode(data, size).tobytes()


CODECS: dict[str, Codec] = {
    "stored": Codec(lambda data: data, lambda data, _: data),
    "range": Codec(_ranged, _unranged),
    "lzma": Codec(_lzma, _unlzma),
    "zstd": Codec(zstd, _unzstd),
}
"""By the name that a packed file's header has for it; a name never changes its meaning."""


def shrink(data: bytes) -> tuple[str, bytes]:
    """The name of the codec that makes `data` smallest, and what it makes of it."""
    sample = data[:TRIED_WHOLE]
    sizes = {name: len(codec.shrink(sample)) for name, codec in CODECS.items()}
    best = min(sizes, key=lambda name: sizes[name])
    return best, CODECS[best].shrink(data)


def expand(name: str, data: bytes, size: int) -> bytes:
    """The `size` bytes that `shrink` was given.

    Raises:
        Damaged: they are not `size` bytes, or no codec's.
    """
    try:
        found = CODECS[name].expand(data, size)
    except (lzma.LZMAError, zstandard.ZstdError, KeyError, EOFError) as error:
        raise Damaged(f"{name}: {error}") from error
    if len(found) != size:
        raise Damaged(f"{name}: {len(found)} bytes in place of {size}")
    return found
