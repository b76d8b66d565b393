"""Which weights are zero: told by their output channel, input channel, tap, and the taps before them in the kernel.

Each of these has had a share of weights that are not zero. The log-odds of the shares, weighted, put a weight into one
of 48 classes, and each class counts how often its weights were not zero after all. The six factors are fitted when a
weight is packed and stored with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pqd_pack.logits import UNIT, logit, odds_of_classes, shares

BLOCK = 8
"""Output channels that are coded before what is known of inputs and taps is brought up to date."""
CLASSES, WIDTH = 48, UNIT // 4
FACTORS = 6
FACTOR_UNIT = 16
"""A factor of 1 is stored as 16."""
DOUBT = 4
"""How many weights of the layer's own share weigh as much as what has been seen."""
SAMPLED_BLOCKS, SAMPLED = 24, 12_000


class Zeros:
    """What is known, while a weight of `shape` (outputs, inputs, taps) is coded block by block."""

    def __init__(self, shape: tuple[int, int, int], density: int, odds: np.ndarray) -> None:
        self._shape, self._density, self._odds = shape, density, odds
        self._hits, self._seen = np.zeros(shape[1:], np.int64), 0
        self._counts = odds_of_classes(CLASSES, WIDTH).copy()

    def chances(self, classes: np.ndarray) -> np.ndarray:
        """The probability, float64, that a weight of each of `classes` is not zero."""
        found: np.ndarray = (self._counts[:, 1] / self._counts.sum(axis=1))[classes]
        return found

    def learn(self, classes: np.ndarray, nonzero: np.ndarray) -> None:
        """This is how weights of `classes` turned out."""
        found = np.bincount(2 * classes + nonzero, minlength=2 * CLASSES)
        self._counts += found.reshape(CLASSES, 2)

    def end_block(self, nonzero: np.ndarray) -> None:
        """All of a block, (outputs, inputs, taps), is known."""
        self._hits += nonzero.sum(axis=0, dtype=np.int64)
        self._seen += len(nonzero)

    def begin_block(self) -> None:
        """What is known of inputs and taps stays as it is for a block."""
        _, inputs, taps = self._shape
        usual, expected = logit(np.array(self._density)), (self._density, DOUBT)
        self._usual = usual
        self._of_input = logit(shares(self._hits.sum(axis=1), self._seen * taps, *expected)) - usual
        self._of_tap = logit(shares(self._hits.sum(axis=0), self._seen * inputs, *expected)) - usual
        self._of_both = logit(shares(self._hits, self._seen, *expected)) - usual

    def clues(self, block: slice, tap: int, before: np.ndarray) -> list[np.ndarray]:
        """Six log-odds, each of shape (outputs, inputs) or less, for the weights of one tap.

        `before` (outputs, inputs) counts the weights before it in the same kernel that are not zero.
        """
        kernel = logit(shares(before, tap, self._density, DOUBT)) - self._usual
        output = self._odds[block, None]
        return [np.array(UNIT // 4), output, self._of_input, self._of_tap[tap], self._of_both[:, tap], kernel]


def classes(clues: list[np.ndarray], factors: np.ndarray) -> np.ndarray:
    """The class of each weight, (outputs, inputs)."""
    odds = sum(int(factor) * clue for factor, clue in zip(factors, clues, strict=True)) // FACTOR_UNIT
    found: np.ndarray = np.clip((odds + WIDTH // 2) // WIDTH + CLASSES // 2, 0, CLASSES - 1)
    return found


def blocks(outputs: int) -> Iterator[slice]:
    """The output channels that are coded at a time."""
    return (slice(start, min(start + BLOCK, outputs)) for start in range(0, outputs, BLOCK))


def fit(nonzero: np.ndarray, density: int, odds: np.ndarray) -> np.ndarray:
    """The six factors, int8, that say best which weights of (outputs, inputs, taps) are not zero."""
    found = list(_samples(nonzero, density, odds))
    clues, outcome = np.concatenate([x for x, _ in found]) / UNIT, np.concatenate([y for _, y in found])
    factors = np.array([0, 0.5, 0.5, 0.5, 0.5, 0])
    for _ in range(8):  # Newton's method for a logistic regression with a little ridge
        chance = 1 / (1 + np.exp(-np.clip(clues @ factors, -15, 15)))
        slope = (clues * (chance * (1 - chance) + 1e-6)[:, None]).T @ clues + 0.3 * np.eye(FACTORS)
        factors = factors + np.linalg.solve(slope, clues.T @ (outcome - chance) - 0.3 * factors)
    stored: np.ndarray = np.clip(np.rint(factors * FACTOR_UNIT), -127, 127)
    return stored.astype(np.int8)


def _samples(nonzero: np.ndarray, density: int, odds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    outputs, inputs, taps = nonzero.shape
    known, done, rng = Zeros(nonzero.shape, density, odds), 0, np.random.default_rng(0)
    every = list(blocks(outputs))
    for block in every[:: -(-len(every) // SAMPLED_BLOCKS)]:
        known.end_block(nonzero[done : block.start])
        known.begin_block()
        done, here = block.start, nonzero[block]
        some = rng.permutation(inputs)[: 1 + SAMPLED // (len(here) * taps)]
        for tap in range(taps):
            clues = known.clues(block, tap, here[..., :tap].sum(axis=2, dtype=np.int64))
            whole = np.stack([np.broadcast_to(clue, here.shape[:2]) for clue in clues], axis=-1)
            yield whole[:, some].reshape(-1, FACTORS), here[:, some, tap].reshape(-1)
