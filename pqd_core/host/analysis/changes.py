"""What changes from one deployed file to another, paired by seed: differences of shares, ratios of all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, hypot, log
from statistics import fmean
from typing import Literal

from attrs import frozen
from pydantic import Field

from pqd_core.host.analysis.statistics import Interval, bootstrap_interval, student_interval
from pqd_core.host.rows import Metric, Part, Row

Kind = Literal["difference", "ratio"]
LARGEST_LOG = 700.0
"""Student's interval of two seeds can be wider than a number can be large."""


class Estimate(Part):
    """A change, the mean over seeds: a difference of shares, or a ratio (then of geometric means)."""

    kind: Kind = Field(description="Whether `value` is a difference (0: no change) or a ratio (1: no change).")
    value: float = Field(description="The change.")
    n: int = Field(description="Seeds that it was found with.")
    low: float | None = Field(description="Lower end of the 95 % bootstrap interval over seeds; null below 3 seeds.")
    high: float | None = Field(description="Its upper end.")
    student_low: float | None = Field(description="Lower end of Student's 95 % interval; null with one seed.")
    student_high: float | None = Field(description="Its upper end.")
    beyond_noise: bool = Field(
        description="Whether it is more than chance: Student's interval leaves out no change; with one seed, the "
        "change exceeds what the measurements' own intervals allow."
    )

    @property
    def text(self) -> str:
        """`+1.20 points` or `0.76x`."""
        if self.kind == "ratio":
            return f"{self.value:.2f}x"
        return f"{round(self.value * 100, 2) + 0.0:+.2f} points"  # + 0.0: nobody wants to read -0.00


@frozen
class Change:
    """One seed's change, on a scale on which changes add up."""

    kind: Kind
    amount: float
    """The difference, or the logarithm of the ratio."""
    noise: float
    """Half of its 95 % interval from the two measurements alone."""


def change(before: Metric | None, after: Metric | None) -> Change | None:
    """What changed; None where a number is missing, or is 0 and cannot be divided by."""
    if not before or not after or before.value is None or after.value is None:
        return None
    spreads = before.spread or 0.0, after.spread or 0.0
    if after.unit == "1":
        return Change("difference", after.value - before.value, hypot(*spreads))
    if before.value <= 0 or after.value <= 0:
        return None
    return Change("ratio", log(after.value / before.value), hypot(spreads[0] / before.value, spreads[1] / after.value))


def changes(before: Mapping[int, Row], after: Mapping[int, Row], metric: str) -> dict[int, Change]:
    """The change of each seed that both have."""
    found = {
        seed: change(before[seed].metrics.get(metric), row.metrics.get(metric))
        for seed, row in after.items()
        if seed in before
    }
    return {seed: one for seed, one in found.items() if one}


def average(several: Sequence[Change]) -> Change:
    """The mean of some changes; its noise is no smaller than theirs, as they may err together: on the same test images,
    in the same rounds."""
    return Change(several[0].kind, fmean(c.amount for c in several), fmean(c.noise for c in several))


def estimate(found: Mapping[int, Change]) -> Estimate | None:
    """The mean change over seeds, with its intervals; None without any."""
    if not found:
        return None
    kind = next(iter(found.values())).kind
    amounts, mean = tuple(one.amount for one in found.values()), average(list(found.values()))
    resampled, student = bootstrap_interval(amounts), student_interval(amounts)
    low, high = _range(found)
    return Estimate(
        kind=kind,
        value=on_scale(mean.amount, kind),
        n=len(amounts),
        low=on_scale(resampled[0], kind) if resampled else None,
        high=on_scale(resampled[1], kind) if resampled else None,
        student_low=on_scale(student[0], kind) if student else None,
        student_high=on_scale(student[1], kind) if student else None,
        beyond_noise=low > 0 or high < 0,
    )


def interval(found: Mapping[int, Change]) -> Interval:
    """Student's 95 % interval of the mean change; with one seed what the measurements' own intervals allow."""
    low, high = _range(found)
    kind = next(iter(found.values())).kind
    return on_scale(low, kind), on_scale(high, kind)


def _range(found: Mapping[int, Change]) -> Interval:
    mean = average(list(found.values()))
    student = student_interval(tuple(one.amount for one in found.values()))
    return student or (mean.amount - mean.noise, mean.amount + mean.noise)


def on_scale(amount: float, kind: Kind) -> float:
    """The amount as a person reads it; a ratio's logarithm that overflows is cut."""
    return exp(min(amount, LARGEST_LOG)) if kind == "ratio" else amount


def compare(before: Mapping[int, Row], after: Mapping[int, Row], metric: str) -> Estimate | None:
    """The change of `metric` from some seeds' rows to the same seeds' other rows."""
    return estimate(changes(before, after, metric))
