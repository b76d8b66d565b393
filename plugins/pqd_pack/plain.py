"""Bytes by their frequency so far: no table is stored, as the reader counts what it has read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pqd_pack.coder import Coder, Reader, Writer

SYMBOLS = 256
WEIGHT = 32
"""How much more one occurrence counts than none."""
FIRST, LONGEST = 16, 65_536
"""Symbols between two looks at the frequencies: few at first, then twice as many each time."""


def encode(values: np.ndarray) -> bytes:
    """`values`, uint8 in one dimension, near their entropy."""
    writer = Writer()
    code(writer, values)
    return writer.data()


def decode(data: bytes, size: int) -> np.ndarray:
    """The `size` values, uint8, that `encode` was given.

    Raises:
        Damaged: `data` ends before them, or after.
    """
    reader = Reader(data)
    values = code(reader, np.empty(size, np.uint8))
    reader.end()
    return values


def code(coder: Coder, values: np.ndarray) -> np.ndarray:
    """`values`, uint8, written or read."""
    found, counts = np.empty_like(values), np.ones(SYMBOLS)
    for part in stretches(len(values)):
        found[part] = coder.symbols(values[part], counts)
        counts += WEIGHT * np.bincount(found[part], minlength=SYMBOLS)
    return found


def stretches(size: int) -> Iterator[slice]:
    """The parts in which `size` symbols are coded."""
    start, length = 0, FIRST
    while start < size:
        yield slice(start, min(start + length, size))
        start, length = start + length, min(2 * length, LONGEST)
