"""Log-odds in whole numbers, from tables that are the same on every machine."""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache

import numpy as np

SHARES = 1024
"""A share is given in 1024ths."""
UNIT = 64
"""A log-odds of 1 is 64."""
EXACT = Context(prec=20)
"""Decimals are rounded correctly, which the floating-point logarithms of two C libraries need not be."""


@lru_cache
def _table() -> np.ndarray:
    odds = (Decimal(2 * share + 1) / Decimal(2 * (SHARES - share) + 1) for share in range(SHARES + 1))
    return np.array([int((EXACT.ln(one) * UNIT).to_integral_value()) for one in odds], np.int64)


def logit(share: np.ndarray) -> np.ndarray:
    """The log-odds, in 64ths, of shares in 1024ths; never infinite."""
    found: np.ndarray = _table()[share]
    return found


def shares(hits: np.ndarray, of: np.ndarray | int, expected: int, weight: int) -> np.ndarray:
    """`hits` of `of` in 1024ths, as if `weight` more had been seen of which `expected` 1024ths were hits."""
    return (hits * SHARES + expected * weight) // (of + weight)


@lru_cache
def odds_of_classes(classes: int, width: int) -> np.ndarray:
    """How many zeros and ones, float64 (classes, 2), stand for the log-odds of each class, `width` 64ths wide."""
    middle = (np.arange(classes) - classes // 2) * width
    ones = [int((SHARES / (1 + EXACT.exp(Decimal(-int(one)) / UNIT))).to_integral_value()) for one in middle]
    ones_of_1024 = np.clip(np.array(ones), 2, SHARES - 2)
    return np.stack([SHARES - ones_of_1024, ones_of_1024], axis=1) / 64.0
