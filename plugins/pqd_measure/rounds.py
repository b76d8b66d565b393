"""Turns in shuffled rounds, and what follows from their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Any], Any]
T = TypeVar("T")
RESAMPLES = 1000


@frozen
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def shuffled_rounds(members: Sequence[T], rounds: int, seed: int) -> Iterator[list[T]]:
    """`rounds` times all members, each time in another order, so that a drift of the machine hits all alike."""
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        yield [members[i] for i in rng.permutation(len(members))]


def groups_with_references(references: Sequence[int | None], at_once: int) -> Iterator[list[int]]:
    """Indices of all candidates in groups of `at_once` at most, each beside the one it is compared with, if any."""
    group: set[int] = set()
    for index, reference in enumerate(references):
        wanted = {index} if reference is None else {index, reference}
        if len(group | wanted) > at_once:
            yield sorted(group)
            group = set()
        group |= wanted
    if group:
        yield sorted(group)


def latency(times_ms: Floats, seed: int) -> Estimate:
    """The median of all times (rounds, inferences)."""
    return _estimate(lambda rounds: np.median(times_ms[rounds]), len(times_ms), seed)


def latency_p95(times_ms: Floats, seed: int) -> Estimate:
    """The 95th percentile of all times (rounds, inferences)."""
    return _estimate(lambda rounds: np.percentile(times_ms[rounds], 95), len(times_ms), seed)


def throughput(times_ms: Floats, batch: int, seed: int) -> Estimate:
    """Images per second over all times (rounds, inferences)."""
    return _estimate(lambda rounds: 1e3 * batch / times_ms[rounds].mean(), len(times_ms), seed)


def paired_ratio(times_ms: Floats, reference_ms: Floats, seed: int) -> Estimate:
    """The median over the rounds of each round's own ratio of medians."""
    ratios = np.median(times_ms, axis=1) / np.median(reference_ms, axis=1)
    return _estimate(lambda rounds: np.median(ratios[rounds]), len(ratios), seed)


def _estimate(statistic: Statistic, rounds: int, seed: int) -> Estimate:
    """`statistic`, a function of round numbers (rounds,), and its percentile bootstrap interval.

    Whole rounds are resampled: the inferences of one round resemble each other, and resampling them one by one
    would pretend to more independent observations than there are (Davison and Hinkley 1997, section 3.8).
    """
    from scipy.stats import bootstrap

    numbers = np.arange(rounds)
    found = bootstrap(
        (numbers,),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Estimate(float(statistic(numbers)), float(found.low), float(found.high))
