"""What follows from times in several processes: a value, and where another measurement would find it.

Two processes of one file differ more than the rounds of one: the layout of memory alone moves times by per cents. So
whole processes are resampled, and the interval is wide enough for a new measurement with processes of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, hypot, log, sqrt
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 1000
AT_A_TIME = 10**6
"""How many values resamples hold at a time."""
CONFIDENCE = 0.95
SPREAD_IS = "half of the 95 % interval in which another measurement finds its value; whole processes resampled"


@frozen
class Estimate:
    """A value and the interval in which another measurement like this one finds it 19 times in 20."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def wider(self, reach: float) -> Estimate:
        """The same, uncertain for another, independent reason, too: `reach` is that one's own, on the log scale."""
        whole = exp(hypot(log(self.high / self.value), reach))
        return Estimate(self.value, self.value / whole, self.value * whole)

    @property
    def relative(self) -> float:
        """The spread as a share of the value."""
        return self.spread / self.value


def latency(times_ms: Floats, seed: int) -> Estimate:
    """The median of all times (processes, rounds, inferences)."""
    return estimate(times_ms, _median, seed)


def latency_p95(times_ms: Floats, seed: int) -> Estimate:
    """The 95th percentile of all times (processes, rounds, inferences)."""
    return estimate(times_ms, lambda times: np.percentile(times, 95, axis=-1), seed)


def throughput(times_ms: Floats, batch: int, seed: int) -> Estimate:
    """Images per second over all times (processes, rounds, inferences)."""
    return estimate(times_ms, lambda times: 1e3 * batch / times.mean(axis=-1), seed)


def paired_ratio(times_ms: Floats, reference_ms: Floats, seed: int) -> Estimate:
    """The median over all rounds of each round's own ratio of medians; times are (processes, rounds, inferences)."""
    return median(np.median(times_ms, axis=2) / np.median(reference_ms, axis=2), seed)


def median(values: Floats, seed: int) -> Estimate:
    """The median of what each process (the first axis) told."""
    return estimate(values, _median, seed)


def _median(values: Floats) -> Any:
    return np.median(values, axis=-1)


def estimate(values: Floats, statistic: Callable[[Floats], Any], seed: int) -> Estimate:
    """`statistic`, taken over the last axis, of positive `values` (processes, ...), and its prediction interval.

    Two resamples of the processes stand for this measurement and another one: the interval holds 95 % of the ratios
    between their statistics. Resampling n processes is too narrow by a factor that is known for normal levels, and
    the interval is stretched by it: the narrowness bias of Hesterberg (2015), "What Teachers Should Know About the
    Bootstrap".
    """
    by_process = values.reshape(len(values), -1)
    value = float(statistic(by_process.reshape(-1)))
    rng = np.random.default_rng(seed)
    this, other = (_resampled(by_process, statistic, rng) for _ in range(2))
    between = np.quantile(np.abs(np.log(this / other)), CONFIDENCE)
    reach = exp(between * _stretch(len(values)))
    return Estimate(value, value / reach, value * reach)


def _resampled(by_process: Floats, statistic: Callable[[Floats], Any], rng: np.random.Generator) -> Floats:
    """The statistic of each resample of whole processes; as many at a time as fit into a few megabytes."""
    chosen = rng.integers(0, len(by_process), (RESAMPLES, len(by_process)))
    parts = np.array_split(chosen, 1 + RESAMPLES * by_process.size // AT_A_TIME)
    return np.concatenate([statistic(by_process[part].reshape(len(part), -1)) for part in parts if len(part)])


def _stretch(processes: int) -> float:
    from scipy.stats import norm, t

    side = (1 + CONFIDENCE) / 2
    return float(t.ppf(side, processes - 1) / norm.ppf(side) * sqrt(processes / (processes - 1)))
