"""INT8 weights near their entropy, or below it where their neighbours tell something of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import frozen

from pqd_pack import plain
from pqd_pack.damage import Damaged


@frozen
class WeightCodec:
    """Two functions that undo each other."""

    shrink: Callable[[np.ndarray], bytes]
    """From an int8 array of any shape."""
    expand: Callable[[bytes, tuple[int, ...]], np.ndarray]
    """To its values, int8 in one dimension."""


CODECS: dict[str, WeightCodec] = {
    "range": WeightCodec(
        lambda values: plain.encode(values.reshape(-1)), lambda data, shape: plain.decode(data, math.prod(shape))
    ),
}
"""By the name that a packed file's header has for it; a name never changes its meaning."""


def shrink(data: bytes, shape: tuple[int, ...]) -> tuple[str, bytes]:
    """The name of the codec that makes a weight smallest, and what it makes of it."""
    values = np.frombuffer(data, np.int8).reshape(shape)
    made = {name: codec.shrink(values) for name, codec in CODECS.items()}
    best = min(made, key=lambda name: len(made[name]))
    return best, made[best]


def expand(name: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes, uint8, that `shrink` was given.

    Raises:
        Damaged: no codec has made `data` of a weight of this shape.
    """
    if name not in CODECS:
        raise Damaged(f"{name[:80]!r} is no codec of weights")
    return CODECS[name].expand(data, shape).view(np.uint8)
