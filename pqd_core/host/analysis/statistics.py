"""The statistics of a study, all of them scipy's: intervals of means over seeds, and a test of several orders."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from math import factorial

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9_999
ENOUGH_TO_RESAMPLE = 3
"""Two values resampled give their own span, which holds the mean in half of all cases."""
Interval = tuple[float, float]
Table = Sequence[Sequence[float]]


@cache
def bootstrap_interval(values: tuple[float, ...]) -> Interval | None:
    """The percentile bootstrap interval of the mean; None for fewer than three values.

    It is too narrow for few values: of three it is their span, which holds the mean in three of four cases.
    """
    from scipy.stats import bootstrap

    if len(values) < ENOUGH_TO_RESAMPLE:
        return None
    found = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", confidence_level=CONFIDENCE, rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


@cache
def student_interval(values: tuple[float, ...]) -> Interval | None:
    """Student's interval of the mean, right for few values if they are normal; None for a single one."""
    from scipy.stats import ttest_1samp

    if len(values) < 2:
        return None
    with warnings.catch_warnings():  # of seeds that agree to the last digit, as sizes do
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


def shuffled_orders(table: Table) -> float:
    """p of the largest difference between the columns' means; `table` has a row for each seed.

    If order made no difference, a seed's values could stand under any order: they are shuffled within each row, and p
    is the share of shuffles whose largest difference is as large as the one found. As the largest is compared with the
    largest, looking at many orders finds nothing that is not there. Nothing is assumed of the values' distribution.
    """
    from scipy.stats import permutation_test

    found = permutation_test(
        tuple(np.asarray(table, dtype=float).T),
        _largest_difference,
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=RESAMPLES,
        rng=0,
    )
    return float(found.pvalue)


def _largest_difference(*orders: np.ndarray, axis: int) -> np.ndarray:
    means: np.ndarray = np.stack([order.mean(axis) for order in orders])
    # Sums of the same numbers in another order differ in the last digit, which must not decide a comparison.
    spans: np.ndarray = np.round(np.ptp(means, axis=0), 12)
    return spans


def corrected(ps: Sequence[float]) -> list[float]:
    """Each p as it has to be read among all of them.

    Benjamini and Hochberg (1995): of the tests whose corrected p is at most 0.05, no more than 5 % are expected to have
    found what is not there. That holds for tests that are independent or go along with one another (Benjamini and
    Yekutieli 2001), as those of one network in two runtimes do.
    """
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(ps, method="bh")] if ps else []


def seed_noise(table: Table) -> float:
    """What the largest difference between the columns' means stays below in 95 % of cases if only seeds make it.

    Tukey's honestly significant difference, of the values without their rows' and their columns' means.
    """
    values = np.asarray(table, dtype=float)
    seeds, orders = values.shape
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    freedom = (seeds - 1) * (orders - 1)
    return studentized_range(orders, freedom) * float(np.sqrt((rest**2).sum() / freedom / seeds))


@cache
def studentized_range(orders: int, freedom: int) -> float:
    """The 95 % quantile of the range of as many means, in standard errors."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(CONFIDENCE, orders, freedom))


def smallest_p(orders: int, seeds: int) -> float:
    """The smallest p that shuffling can give: the renamings of the orders, among all shuffles."""
    return float(factorial(orders)) ** (1 - seeds)
