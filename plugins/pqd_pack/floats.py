"""Float weights: which of them are zero is told as INT8 weights are, the others are taken apart into planes of bytes.

The bits of a number are turned left by one, so that its exponent fills the last byte, little-endian, and its sign is
the first bit of the first. Exponents take what their frequencies say; of the rest of a trained weight nothing can be
told, and it is stored.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

from pqd_pack import codecs, weights
from pqd_pack.damage import Damaged
from pqd_pack.regions import ITEM_BYTES
from pqd_pack.weights import Turns

NAME = "floats"
ZERO, OTHER, NEGATIVE_ZERO = 0, 1, -1
"""Kinds of numbers. Pruning by a product with a mask leaves zeros with the sign of the weight."""
PIECE = struct.Struct("<BI")
"""Ahead of each piece: which of its codecs has made it, and its length."""
OF_KINDS, OF_PLANES = ("range", "rows"), ("stored", "range")
"""The codecs of a piece by their number."""
SAMPLE = 2**18
"""What a codec of plain bytes would make of a weight is judged by so many bytes of its beginning."""


def shrink(data: bytes, dtype: str, shape: tuple[int, ...], turns: Turns) -> tuple[str, bytes]:
    """The name of the codec that makes a weight smallest, and what it makes of it."""
    apart, sample = _encode(data, dtype, shape, turns), data[:SAMPLE]
    _, whole = codecs.shrink(sample)
    if len(whole) * len(data) < len(apart) * len(sample):  # few values, say, that come again and again
        return codecs.shrink(data)
    return NAME, apart


def expand(name: str, data: bytes, dtype: str, shape: tuple[int, ...], turns: Turns) -> np.ndarray:
    """The bytes, uint8, that `shrink` was given.

    Raises:
        Damaged: no codec has made `data` of a weight of this shape.
        TooLarge: its shape is made to take long.
    """
    width = ITEM_BYTES[dtype]
    if name == NAME:
        return _decode(data, width, shape, turns)
    return np.frombuffer(codecs.expand(name, data, math.prod(shape) * width), np.uint8)


def _encode(data: bytes, dtype: str, shape: tuple[int, ...], turns: Turns) -> bytes:
    width = ITEM_BYTES[dtype]
    bits = np.frombuffer(data, f"<u{width}")
    turned = bits << 1 | bits >> 8 * width - 1
    kinds = np.where(turned > 1, OTHER, -turned.astype(np.int8)).astype(np.int8)
    name, told = weights.shrink(kinds.tobytes(), shape, turns)
    pieces = [PIECE.pack(OF_KINDS.index(name), len(told)), told]
    others = turned[kinds == OTHER].tobytes()
    for plane in range(width):
        values = others[plane::width]
        made = [codecs.CODECS[codec].shrink(values) for codec in OF_PLANES]
        best = min(range(len(made)), key=lambda number: len(made[number]))
        pieces += [PIECE.pack(best, len(made[best])), made[best]]
    return b"".join(pieces)


def _decode(data: bytes, width: int, shape: tuple[int, ...], turns: Turns) -> np.ndarray:
    pieces = _pieces(data, 1 + width)
    number, told = next(pieces)
    kinds = weights.expand(_name(OF_KINDS, number), told, shape, turns).view(np.int8)
    count = int(np.count_nonzero(kinds > ZERO))
    planes = [codecs.expand(_name(OF_PLANES, number), plane, count) for number, plane in pieces]
    turned = (kinds == NEGATIVE_ZERO).astype(f"<u{width}")
    items = np.stack([np.frombuffer(plane, np.uint8) for plane in planes], axis=1)
    turned[kinds > ZERO] = items.reshape(-1).view(turned.dtype)
    bits: np.ndarray = turned >> 1 | turned << 8 * width - 1
    return bits.view(np.uint8)


def _pieces(data: bytes, count: int) -> Iterator[tuple[int, bytes]]:
    end = 0
    for _ in range(count):
        try:
            number, length = PIECE.unpack_from(data, end)
        except struct.error as error:
            raise Damaged(f"{NAME}: it ends within a piece") from error
        start, end = end + PIECE.size, end + PIECE.size + length
        yield number, data[start:end]
    if end != len(data):
        raise Damaged(f"{NAME}: its pieces and its length do not agree")


def _name(names: tuple[str, ...], number: int) -> str:
    if number >= len(names):
        raise Damaged(f"{NAME}: codec {number} of a piece is none")
    return names[number]
