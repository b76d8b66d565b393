"""Each pipeline over its seeds: mean, spread, and what it gains against the dense network and the written order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean, stdev

from pydantic import Field

from pqd_core.host.analysis.changes import Estimate, compare
from pqd_core.host.analysis.frontier import Standing
from pqd_core.host.rows import DENSE, Part, Pipeline, Place, Row, in_words
from pqd_core.host.words import bare, quantity
from pqd_core.records import Better


class Cell(Part):
    """One metric of one pipeline, over its seeds."""

    mean: float | None = Field(description="Mean over seeds; null if no seed has the number.")
    spread: float | None = Field(
        description="Standard deviation over seeds, null if only one of several has the number; in a study of one seed "
        "half of the number's own 95 % interval."
    )
    n: int = Field(description="Seeds that have the number.")
    unit: str = Field(description="Unit; `1` for a share.")
    better: Better = Field(description="Which side is better.")
    headline: bool = Field(description="Whether the short table shows it.")
    missing: str | None = Field(None, description="Why a seed has no number.")
    against_dense: Estimate | None = Field(None, description="Change from the dense network of the same seed.")
    against_written: Estimate | None = Field(None, description="Change from the written order of the same seed.")

    @property
    def text(self) -> str:
        """`98.61 % ± 0.31`, or `missing`."""
        if self.mean is None:
            return "missing"
        return quantity(self.mean, self.unit) + (f" ± {bare(self.spread, self.unit)}" if self.spread else "")


class Summary(Part):
    """One pipeline in one runtime, over its seeds."""

    pipeline: Pipeline = Field(description="The stages in their order; empty for the dense baseline.")
    runtime: str = Field(description="Where the files run.")
    seeds: list[int] = Field(description="The seeds.")
    cells: dict[str, Cell] = Field(description="Numbers by metric.")
    standing: Standing | None = Field(None, description="Its place among the others; null where a number is missing.")
    incomplete: str | None = Field(None, description="Why it has no place: how many of the study's seeds it has.")

    @property
    def label(self) -> str:
        """The pipeline in words."""
        return in_words(self.pipeline)


def summarize(places: Mapping[Place, Mapping[int, Row]], written: Pipeline) -> list[Summary]:
    """One summary per pipeline and runtime, in the order of `places`."""
    summaries, one_seed = [], len({seed for seeds in places.values() for seed in seeds}) == 1
    for (pipeline, runtime), seeds in places.items():
        cells = {name: _cell(name, seeds.values(), one_seed) for name in _metrics(seeds.values())}
        for name, cell in cells.items():
            if cell.better != "neither" and pipeline:
                cell.against_dense = compare(places.get((DENSE, runtime), {}), seeds, name)
            if cell.better != "neither" and pipeline != written:
                cell.against_written = compare(places.get((written, runtime), {}), seeds, name)
        summaries.append(Summary(pipeline=pipeline, runtime=runtime, seeds=sorted(seeds), cells=cells))
    return summaries


def _metrics(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _cell(name: str, rows: Iterable[Row], one_seed: bool) -> Cell:
    metrics = [row.metrics[name] for row in rows if name in row.metrics]
    found = [metric.value for metric in metrics if metric.value is not None]
    return Cell(
        mean=fmean(found) if found else None,
        spread=stdev(found) if len(found) > 1 else metrics[0].spread if one_seed and found else None,
        n=len(found),
        unit=metrics[0].unit,
        better=metrics[0].better,
        headline=any(metric.headline for metric in metrics),
        missing=next((metric.missing for metric in metrics if metric.missing), None),
    )
