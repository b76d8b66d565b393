"""constriction's range coder behind one face for both directions: what is written comes back when it is read.

A model of weights goes through them once, in one function for packing and unpacking. All it knows it has from what was
coded before, so both walks see the same. Probabilities reach the coder as quotients of whole numbers, in float64: the
same on every machine.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from constriction import stream

from pqd_pack.damage import Damaged

BERNOULLI = stream.model.Bernoulli(perfect=False)


class Coder(Protocol):
    """Each method returns the values: those that it was given when writing, those that it finds when reading."""

    def bits(self, values: np.ndarray, ones: np.ndarray) -> np.ndarray:
        """Zeros and ones, each one with its probability in `ones`, float64."""
        ...

    def symbols(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Whole numbers from 0, each as likely as `counts`, float64 and above 0, says."""
        ...


class Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self._coder = stream.queue.RangeEncoder()

    def bits(self, values: np.ndarray, ones: np.ndarray) -> np.ndarray:
        """Write `values`."""
        self._coder.encode(values.astype(np.int32), BERNOULLI, ones)
        return values

    def symbols(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Write `values`."""
        self._coder.encode(values.astype(np.int32), _frequencies(counts))
        return values

    def data(self) -> bytes:
        """All that was written, as 32-bit words."""
        words: np.ndarray = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class Reader:
    """Gives back what a `Writer` has kept; of the values it is given it looks at their number only."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise Damaged("range: a part of a word")
        self._coder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def bits(self, values: np.ndarray, ones: np.ndarray) -> np.ndarray:
        """Read as many."""
        return self._read(BERNOULLI, ones)

    def symbols(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Read as many."""
        return self._read(_frequencies(counts), len(values))

    def _read(self, *what: object) -> np.ndarray:
        try:
            return self._coder.decode(*what)  # type: ignore[no-any-return]
        except AssertionError as error:  # constriction's word for bytes that no message leads to
            raise Damaged(f"range: {error}") from error

    def end(self) -> None:
        """There is nothing more.

        Raises:
            Damaged: there are words that nothing was read from.
        """
        if not self._coder.maybe_exhausted():
            raise Damaged("range: more words than symbols")


def _frequencies(counts: np.ndarray) -> stream.model.Categorical:
    return stream.model.Categorical(counts, perfect=False)
