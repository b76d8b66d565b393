"""Signs of the weights that are not zero: those of two taps before, and how their input and tap have leaned so far."""

from __future__ import annotations

import numpy as np

from pqd_pack.coder import Coder

LEANINGS = 13
CONTEXTS = 9 * LEANINGS


class Signs:
    """What is known of the signs of a weight of `shape` (outputs, inputs, taps), its kernels `width` taps wide."""

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        self._width, self._second = width, width if width < shape[2] else 2
        self._counts = np.full((CONTEXTS, 2), 2.0)
        self._lean, self._seen = np.zeros(shape[1:], np.int64), np.zeros(shape[1:], np.int64)

    def code(self, coder: Coder, positive: np.ndarray, nonzero: np.ndarray) -> np.ndarray:
        """-1, 0 or 1 for a block (outputs, inputs, taps), given which are not zero."""
        signs = np.zeros(nonzero.shape, np.int64)
        leaning = np.clip(self._lean * 6 // (self._seen + 4) + LEANINGS // 2, 0, LEANINGS - 1)
        for tap in range(nonzero.shape[2]):
            here = nonzero[..., tap] != 0
            near = 3 * self._before(signs, tap, 1) + self._before(signs, tap, self._second) + 4
            contexts = (near * LEANINGS + leaning[:, tap])[here]
            if len(contexts):
                chances = (self._counts[:, 1] / self._counts.sum(axis=1))[contexts]
                bits = coder.bits(positive[..., tap][here], chances)
                self._counts += np.bincount(2 * contexts + bits, minlength=2 * CONTEXTS).reshape(CONTEXTS, 2)
                signs[here, tap] = 2 * bits - 1
        self._lean += signs.sum(axis=0)
        self._seen += nonzero.sum(axis=0)
        return signs

    def _before(self, signs: np.ndarray, tap: int, distance: int) -> np.ndarray:
        """The signs so many taps before in the same kernel, 0 where its row or the kernel begins."""
        inside = tap % self._width >= distance if distance < self._width else tap >= distance
        return signs[..., tap - distance] if inside else np.zeros(signs.shape[:2], np.int64)
