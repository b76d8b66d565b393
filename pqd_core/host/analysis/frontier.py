"""The Pareto frontier over accuracy, size and latency, with noise in mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from pydantic import Field

from pqd_core.host.analysis.changes import compare
from pqd_core.host.rows import Part, Pipeline, Place, Row, values

AXES = ("accuracy", "size_bytes", "latency_ms")
"""What a person trades off, if it was measured."""
Status = Literal["frontier", "tied", "dominated"]


class Standing(Part):
    """A pipeline's place among those of its runtime."""

    status: Status = Field(
        description="`frontier`: none is as good in everything. `dominated`: one is, and better in something by more "
        "than noise. `tied`: one is, but all that it is better in is within the noise."
    )
    by: Pipeline | None = Field(None, description="A pipeline that is as good in everything, if there is one.")
    axes: list[str] = Field(description="The metrics that were compared.")


Rows = Mapping[int, Row]


def standings(places: Mapping[Place, Rows]) -> dict[Place, Standing]:
    """The standing of each pipeline that has all numbers, within its runtime."""
    axes = [axis for axis in AXES if any(values(seeds, axis) for seeds in places.values())]
    whole = {place: seeds for place, seeds in places.items() if axes and all(values(seeds, axis) for axis in axes)}
    return {place: _standing(place, whole, axes) for place in whole}


def _standing(place: Place, whole: Mapping[Place, Rows], axes: Sequence[str]) -> Standing:
    pipeline, runtime = place
    tied: Pipeline | None = None
    for (other, where), seeds in whole.items():
        if where == runtime and other != pipeline and _as_good(seeds, whole[place], axes):
            if _better_beyond_noise(whole[place], seeds, axes):
                return Standing(status="dominated", by=other, axes=list(axes))
            tied = other if tied is None else tied
    return Standing(status="frontier" if tied is None else "tied", by=tied, axes=list(axes))


def _as_good(one: Rows, other: Rows, axes: Sequence[str]) -> bool:
    """`one` is nowhere worse than `other` in its means, and better in one of them."""
    gains = [_gain(other, one, axis) for axis in axes]
    return min(gains) >= 0 and max(gains) > 0


def _gain(before: Rows, after: Rows, axis: str) -> float:
    higher = next(iter(after.values())).metrics[axis].better == "higher"
    gained = fmean(values(after, axis)) - fmean(values(before, axis))
    return gained if higher else -gained


def _better_beyond_noise(before: Rows, after: Rows, axes: Sequence[str]) -> bool:
    found = (compare(before, after, axis) for axis in axes if _gain(before, after, axis) > 0)
    return any(one is not None and one.beyond_noise for one in found)
