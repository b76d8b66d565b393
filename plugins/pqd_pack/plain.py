"""Integers by their frequency so far: no table is stored, as the reader counts what it has read.

The arithmetic is constriction's range coder. Frequencies are whole numbers far below 2**53, so that the float64 in
which constriction is given them is exact, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from constriction import stream

from pqd_pack.damage import Damaged

SYMBOLS = 256
WEIGHT = 32
"""How much more one occurrence counts than none."""
FIRST, LONGEST = 256, 65_536
"""Symbols between two looks at the frequencies: few at first, then twice as many each time."""


class Frequencies:
    """How often each byte has been there."""

    def __init__(self) -> None:
        self.counts = np.ones(SYMBOLS)

    def model(self) -> stream.model.Categorical:
        """What the next symbols are expected to be."""
        return stream.model.Categorical(self.counts, perfect=False)

    def add(self, symbols: np.ndarray) -> None:
        """`symbols`, int32, have been there."""
        self.counts += WEIGHT * np.bincount(symbols, minlength=SYMBOLS)


def stretches(size: int) -> Iterator[slice]:
    """The parts in which `size` symbols are coded."""
    start, length = 0, FIRST
    while start < size:
        yield slice(start, min(start + length, size))
        start, length = start + length, min(2 * length, LONGEST)


def encode(values: np.ndarray) -> bytes:
    """`values`, int8 in one dimension, near their entropy."""
    symbols, frequencies, coder = values.view(np.uint8).astype(np.int32), Frequencies(), stream.queue.RangeEncoder()
    for part in stretches(len(symbols)):
        coder.encode(symbols[part], frequencies.model())
        frequencies.add(symbols[part])
    words: np.ndarray = coder.get_compressed()
    return words.astype("<u4").tobytes()


def decode(data: bytes, size: int) -> np.ndarray:
    """The `size` values, int8, that `encode` was given.

    Raises:
        Damaged: `data` ends before them, or after.
    """
    coder, frequencies, values = open_coder(data), Frequencies(), np.empty(size, np.uint8)
    for part in stretches(size):
        symbols = read(coder, frequencies.model(), part.stop - part.start)
        frequencies.add(symbols)
        values[part] = symbols
    close_coder(coder)
    return values.view(np.int8)


def open_coder(data: bytes) -> stream.queue.RangeDecoder:
    """A reader of `data`."""
    if len(data) % 4:
        raise Damaged("range: a part of a word")
    return stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))


def read(coder: stream.queue.RangeDecoder, expected: stream.model.Categorical, size: int) -> np.ndarray:
    """The next `size` symbols, int32."""
    try:
        return coder.decode(expected, size)  # type: ignore[no-any-return]
    except AssertionError as error:  # constriction's word for bytes that no message leads to
        raise Damaged(f"range: {error}") from error


def close_coder(coder: stream.queue.RangeDecoder) -> None:
    """Everything has been read that was there."""
    if not coder.maybe_exhausted():
        raise Damaged("range: more words than symbols")
