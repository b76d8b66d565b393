"""INT8 weights below their zero-order entropy, by what is known of them from weights that came before.

A weight is outputs x inputs x taps. What training, pruning and per-channel quantization leave behind is used in three
files: `zeros.py` says which weights are zero, `sizes.py` how large the others are, `signs.py` their signs. This one
tells ahead what each output channel has of its own, its spread and its share of zeros, and goes through the blocks.

Everything that decides about a probability is computed in whole numbers.
"""

from __future__ import annotations

import math
import struct
import sys

import numpy as np
from attrs import frozen

from pqd_pack import plain
from pqd_pack.coder import Coder, Reader, Writer
from pqd_pack.damage import Damaged
from pqd_pack.logits import SHARES, UNIT
from pqd_pack.signs import Signs
from pqd_pack.sizes import GROUPS, Sizes, step
from pqd_pack.zeros import BLOCK, CLASSES, FACTORS, Zeros, blocks, classes, fit

HEAD = struct.Struct("<BBBH6bx")
MIDDLE = 128
"""Log-odds are stored with this added."""
LARGEST_CHANNEL = 2**18
"""Weights of one output channel."""
LARGEST_OCTAVE = 7
"""No spread is above 2**7."""


@frozen
class Told:
    """What is told of a weight ahead of its values."""

    largest: int
    """The largest magnitude; 0 if all are zero."""
    spread_precision: int
    """1, 2, 4, 8 or 16 for an octave."""
    odds_precision: int
    """1, 2 or 4 for a log-odds of 1; 0 if channels have no odds of their own."""
    density: int
    """1024ths of weights that are not zero."""
    factors: np.ndarray
    """Of `zeros.py`."""

    @property
    def is_sound(self) -> bool:
        """Whether a packed weight can say so."""
        known = self.spread_precision in (1, 2, 4, 8, 16) and self.odds_precision in (0, 1, 2, 4)
        return known and self.largest <= 128 and 0 < self.density < SHARES


def work(shape: tuple[int, ...]) -> int:
    """How many turns a weight takes; each is a fraction of a millisecond, however few weights are in it.

    More than anybody has where a block of channels would take more than 200 MB while it is coded.
    """
    outputs, inputs, taps = kernels(shape)
    return outputs + -(-outputs // BLOCK) * taps if inputs * taps <= LARGEST_CHANNEL else sys.maxsize


def kernels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(outputs, inputs, taps)."""
    return shape[0], shape[1], math.prod(shape[2:])


def encode(values: np.ndarray) -> bytes:
    """`values`, int8 of two or more dimensions."""
    weight = values.reshape(kernels(values.shape))
    if not weight.any():
        return HEAD.pack(0, 1, 0, 1, *[0] * FACTORS)
    spreads, odds, told = _describe(weight)
    writer = Writer()
    plain.code(writer, spreads)
    plain.code(writer, odds)
    head = HEAD.pack(told.largest, told.spread_precision, told.odds_precision, told.density, *told.factors.tolist())
    _code(writer, weight, told, spreads, odds, _width(values.shape))
    return head + writer.data()


def decode(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The values, int8 in one dimension, that `encode` was given.

    Raises:
        Damaged: `data` is not what `encode` makes of a weight of this shape.
    """
    if len(data) < HEAD.size:
        raise Damaged("rows: it ends within its head")
    largest, spread_precision, odds_precision, density, *factors = HEAD.unpack_from(data)
    told = Told(largest, spread_precision, odds_precision, density, np.array(factors))
    size = kernels(shape)
    if not told.is_sound:
        raise Damaged("rows: a head that no weight has")
    if not told.largest:
        return np.zeros(math.prod(shape), np.int8)
    reader = Reader(data[HEAD.size :])
    spreads = plain.code(reader, np.empty(size[0], np.uint8))
    odds = plain.code(reader, np.empty(size[0], np.uint8))
    weight = _code(reader, np.zeros(size, np.int8), told, spreads, odds, _width(shape))
    reader.end()
    return weight.reshape(-1)


def _width(shape: tuple[int, ...]) -> int:
    return max(shape[-1], 1) if len(shape) > 2 else 1


def _describe(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, Told]:
    """Spread and odds of each output channel as precisely as it has weights to be known by, and all the rest."""
    outputs, nonzero, size = len(weight), weight != 0, abs(weight.astype(np.int16))
    each, hits = weight[0].size, nonzero.sum(axis=(1, 2))
    spread_precision = next(
        (p for p, least in ((16, 500), (8, 200), (4, 50), (2, 12)) if hits.sum() >= least * outputs), 1
    )
    odds_precision = next((p for p, least in ((4, 400), (2, 60), (1, 20)) if each >= least), 0)
    mean = size.sum(axis=(1, 2)) / np.maximum(hits, 1)
    spreads = np.rint(spread_precision * np.log2(np.maximum(mean, 1))).astype(np.uint8)
    odds = np.rint(odds_precision * np.log((hits + 0.5) / (each - hits + 0.5))) + MIDDLE
    density = min(max(round(SHARES * hits.sum() / weight.size), 1), SHARES - 1)
    factors = fit(nonzero, density, _odds(odds.astype(np.int64), odds_precision))
    return spreads, odds.astype(np.uint8), Told(int(size.max()), spread_precision, odds_precision, density, factors)


def _odds(stored: np.ndarray, precision: int) -> np.ndarray:
    return (stored.astype(np.int64) - MIDDLE) * (UNIT // precision if precision else 0)


def _code(
    coder: Coder, weight: np.ndarray, told: Told, spreads: np.ndarray, odds: np.ndarray, width: int
) -> np.ndarray:
    """The weight, int8 (outputs, inputs, taps), written or read."""
    found = np.zeros_like(weight)
    zeros, sizes = Zeros(weight.shape, told.density, _odds(odds, told.odds_precision)), Sizes(told.largest)
    signs = Signs(weight.shape, width)
    spreads = np.minimum(spreads, LARGEST_OCTAVE * told.spread_precision)
    for block in blocks(len(weight)):
        here = weight[block].astype(np.int64)
        nonzero, groups = _code_zeros(coder, here != 0, block, zeros, told.factors)
        magnitude = np.zeros_like(here)
        for row, spread in enumerate(spreads[block].tolist()):
            chosen = nonzero[row] != 0
            if chosen.any():
                one = step(spread, told.spread_precision)
                magnitude[row][chosen] = sizes.code(coder, abs(here[row][chosen]), groups[row][chosen], one)
        found[block] = magnitude * signs.code(coder, here > 0, nonzero)
    return found


def _code_zeros(
    coder: Coder, nonzero: np.ndarray, block: slice, zeros: Zeros, factors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which weights of a block are not zero, and the group of `sizes.py` that each one belongs to."""
    found, groups = np.zeros(nonzero.shape, np.int64), np.zeros(nonzero.shape, np.int64)
    zeros.begin_block()
    before = np.zeros(nonzero.shape[:2], np.int64)
    for tap in range(nonzero.shape[2]):
        likely = classes(zeros.clues(block, tap, before), factors)
        flat = likely.reshape(-1)
        bits = coder.bits(nonzero[..., tap].reshape(-1), zeros.chances(flat)).astype(np.int64)
        zeros.learn(flat, bits)
        found[..., tap] = bits.reshape(likely.shape)
        groups[..., tap] = np.clip((likely - CLASSES // 2) // 4 + GROUPS // 2, 0, GROUPS - 1)
        before += found[..., tap]
    zeros.end_block(found)
    return found, groups
