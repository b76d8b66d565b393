"""The Pareto frontier over accuracy, size and latency, with noise in mind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal

from pydantic import Field

from pqd_core.host.analysis.changes import compare
from pqd_core.host.rows import Part, Pipeline, Place, Row, lacking, values

AXES = ("accuracy", "size_bytes", "latency_ms")
"""What a person trades off, if it was measured."""
SAME = 0.01
"""Of numbers that have no spread, as sizes have none, a smaller relative difference is none worth a word."""
Status = Literal["frontier", "tied", "dominated"]


class Standing(Part):
    """A pipeline's place among those of its runtime."""

    status: Status = Field(
        description="`dominated`: another one is better in something by more than noise, and worse in nothing by more "
        "than noise. `tied`: not dominated, but another one's means are as good in everything. `frontier`: neither. A "
        "difference of numbers without a spread counts as noise below 1 %."
    )
    by: Pipeline | None = Field(None, description="The other one, if there is one.")
    axes: list[str] = Field(description="The metrics that were compared.")


Rows = Mapping[int, Row]


def standings(places: Mapping[Place, Rows]) -> dict[Place, Standing]:
    """The standing of each pipeline that has all numbers of all seeds, within its runtime."""
    axes, parts = compared_axes(places), incomplete(places)
    whole = {place: seeds for place, seeds in places.items() if axes and place not in parts}
    return {place: _standing(place, whole, axes) for place in whole}


def incomplete(places: Mapping[Place, Rows]) -> dict[Place, str]:
    """How many of the study's seeds each pipeline has that lacks some: `2 of 3 seeds`."""
    axes = compared_axes(places)
    found = {place: next(filter(None, (lacking(places, place, axis) for axis in axes)), None) for place in places}
    return {place: seeds for place, seeds in found.items() if seeds}


def compared_axes(places: Mapping[Place, Rows]) -> list[str]:
    """The metrics of the frontier that were measured at all."""
    return [axis for axis in AXES if any(values(seeds, axis) for seeds in places.values())]


def _standing(place: Place, whole: Mapping[Place, Rows], axes: Sequence[str]) -> Standing:
    mine, (pipeline, runtime) = whole[place], place
    others = {other: rows for (other, where), rows in whole.items() if where == runtime and other != pipeline}
    for status, beats in (("dominated", _dominates), ("tied", _as_good)):
        for other, rows in others.items():
            if beats(rows, mine, axes):
                return Standing.model_validate({"status": status, "by": other, "axes": list(axes)})
    return Standing(status="frontier", axes=list(axes))


def _dominates(one: Rows, other: Rows, axes: Iterable[str]) -> bool:
    """`one` is better in something, and worse in nothing, by more than noise."""
    gains = [_gain(other, one, axis) for axis in axes if beyond_noise(other, one, axis)]
    return bool(gains) and min(gains) > 0


def _as_good(one: Rows, other: Rows, axes: Sequence[str]) -> bool:
    """`one` is nowhere worse than `other` in its means, and better in one of them."""
    gains = [_gain(other, one, axis) for axis in axes]
    return min(gains) >= 0 and max(gains) > 0


def _gain(before: Rows, after: Rows, axis: str) -> float:
    higher = next(iter(after.values())).metrics[axis].better == "higher"
    gained = fmean(values(after, axis)) - fmean(values(before, axis))
    return gained if higher else -gained


def beyond_noise(before: Rows, after: Rows, axis: str) -> bool:
    """Whether the difference is more than chance and, of numbers without a spread, large enough to matter."""
    found = compare(before, after, axis)
    spread = any(row.metrics[axis].spread for rows in (before, after) for row in rows.values() if axis in row.metrics)
    large = spread or abs(_gain(before, after, axis)) >= SAME * abs(fmean(values(before, axis)))
    return found is not None and found.beyond_noise and large
