"""Magnitudes of the weights that are not zero, in units of their output channel's spread.

Quantization per channel divides each channel by a step of its own, so that one distribution of weights becomes many of
integers, and the hole that pruning leaves around zero is now 5 and now 20 wide. Undone by the channel's spread, the
magnitudes of a layer have one density. It is learned while they are coded, as cumulative counts over a grid, and read
off between the edges of each integer.
"""

from __future__ import annotations

import numpy as np

from pqd_pack.coder import Coder

GROUPS = 4
"""Weights that were thought likely to be zero have a density of their own, and so on."""
CELLS, SPREADS = 512, 6
"""The grid reaches to six times a channel's spread in 512 cells."""
FRACTION = 12
"""Bits of a place within a cell, or within an integer."""
WEIGHT = 256
"""What one magnitude adds to the counts."""
SHARED = 1024
"""How many magnitudes of its own a group needs before they outweigh those of the whole layer."""
STEP_BITS = 20
SIXTEENTHS = (
    1048576,
    1004120,
    961548,
    920782,
    881744,
    844361,
    808563,
    774282,
    741455,
    710020,
    679917,
    651091,
    623487,
    597053,
    571740,
    547500,
)
"""2**20 divided by 2**(n / 16)."""


def step(octaves: int, precision: int) -> int:
    """One over a spread of 2**(octaves / precision), in 2**-20; `precision` is 1, 2, 4, 8 or 16."""
    sixteenths = octaves * (16 // precision)
    return SIXTEENTHS[sixteenths % 16] >> sixteenths // 16


class Sizes:
    """What is known of a weight's magnitudes, none above `largest`."""

    def __init__(self, largest: int) -> None:
        self._edges = 2 * np.arange(1, largest + 2) - 1  # in halves
        falling = np.array([2**16 * (CELLS - cell) ** 2 // CELLS**2 for cell in range(CELLS + 1)])
        rising = np.cumsum(falling)
        self._shared = rising * 64 * WEIGHT // rising[-1]
        self._own = np.zeros((GROUPS, CELLS + 1), np.int64)
        self._at_largest = np.array([1, 100])

    def code(self, coder: Coder, sizes: np.ndarray, groups: np.ndarray, step: int) -> np.ndarray:
        """The magnitudes of one output channel, from 1; `groups` says which of the densities each one follows."""
        if len(self._edges) == 2:  # a coder has nothing to say of the only number there is
            return np.ones_like(sizes)
        found, places = np.zeros_like(sizes), self._places(step)
        shared = _between(self._shared, places) * (SHARED * WEIGHT) // int(self._shared[-1])
        counted = []
        for group in np.flatnonzero(np.bincount(groups, minlength=GROUPS)).tolist():
            chosen = groups == group
            symbols = coder.symbols(sizes[chosen] - 1, self._expected(_between(self._own[group], places) + shared))
            found[chosen] = symbols + 1
            counted.append((group, np.bincount(symbols, minlength=len(self._edges) - 1)))
        for group, counts in counted:
            self._learn(group, counts, step)
        return found

    def _places(self, step: int) -> np.ndarray:
        """Where on the grid the integers begin and end."""
        places = self._edges * step * CELLS // (2 * SPREADS << STEP_BITS - FRACTION)
        return np.minimum(places, (CELLS << FRACTION) - 1)

    def _expected(self, counts: np.ndarray) -> np.ndarray:
        """With the largest apart: scaling puts at least one weight of a channel there, whatever the density."""
        counts = counts + 1
        counts[-1] += counts.sum() * self._at_largest[0] // self._at_largest.sum()
        return counts.astype(np.float64)

    def _learn(self, group: int, counts: np.ndarray, step: int) -> None:
        self._at_largest += [counts[-1], counts[:-1].sum()]
        below = np.concatenate([[0], np.cumsum(counts[:-1]), [0]]) * WEIGHT
        below[-1] = below[-2]
        grid = (np.arange(CELLS + 1) * (SPREADS << STEP_BITS + 1) // CELLS << FRACTION) // (2 * step)
        added = _at(below, np.clip(grid - (1 << FRACTION - 1), 0, (len(below) - 1 << FRACTION) - 1))
        self._own[group] += added
        self._shared += added


def _at(cumulative: np.ndarray, places: np.ndarray) -> np.ndarray:
    cell, within = places >> FRACTION, places & (1 << FRACTION) - 1
    low = cumulative[cell]
    found: np.ndarray = low + ((cumulative[cell + 1] - low) * within >> FRACTION)
    return found


def _between(cumulative: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.diff(_at(cumulative, places))
