"""INT8 weights near their entropy, or below it where weights that came before tell something of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import field, frozen

from pqd_pack import plain, rows
from pqd_pack.damage import Damaged, TooLarge


@frozen
class WeightCodec:
    """Two functions that undo each other, and how many turns they take for a shape."""

    shrink: Callable[[np.ndarray], bytes]
    """From an int8 array of any shape."""
    expand: Callable[[bytes, tuple[int, ...]], np.ndarray]
    """To its values, int8 in one dimension."""
    work: Callable[[tuple[int, ...]], int] = field(default=lambda shape: 0)


def _range(values: np.ndarray) -> bytes:
    return plain.encode(values.reshape(-1).view(np.uint8))


def _unrange(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return plain.decode(data, math.prod(shape)).view(np.int8)


CODECS: dict[str, WeightCodec] = {
    "range": WeightCodec(_range, _unrange),
    "rows": WeightCodec(rows.encode, rows.decode, rows.work),
}
"""By the name that a packed file's header has for it; a name never changes its meaning."""


class Turns:
    """How many turns the weights of one file may still take, so that a small one cannot keep its reader busy."""

    def __init__(self, size: int) -> None:
        self._left = 2**18 + size // 1024

    def take(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether there are enough for this weight; if so they are taken."""
        work = CODECS[name].work(shape) if name in CODECS else 0
        enough = work <= self._left
        self._left -= work if enough else 0
        return enough


def shrink(data: bytes, shape: tuple[int, ...], turns: Turns) -> tuple[str, bytes]:
    """The name of the codec that makes a weight smallest, and what it makes of it."""
    values = np.frombuffer(data, np.int8).reshape(shape)
    made = {name: codec.shrink(values) for name, codec in CODECS.items() if values.size and turns.take(name, shape)}
    return min(made.items(), key=lambda one: len(one[1]), default=("range", b""))


def expand(name: str, data: bytes, shape: tuple[int, ...], turns: Turns) -> np.ndarray:
    """The bytes, uint8, that `shrink` was given.

    Raises:
        Damaged: no codec has made `data` of a weight of this shape.
        TooLarge: its shape is made to take long.
    """
    if name not in CODECS:
        raise Damaged(f"{name[:80]!r} is no codec of weights")
    if not turns.take(name, shape):
        raise TooLarge("its weights have shapes that no network of this size has, and would take hours")
    return CODECS[name].expand(data, shape).view(np.uint8)
