"""What a report is made of: rows of numbers, and the steps behind them. Parts of the contract of `report.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pqd_core.host.foreign import as_text
from pqd_core.records import Better

Pipeline = tuple[str, ...]
DENSE: Pipeline = ()
Place = tuple[Pipeline, str]
"""A pipeline in a runtime."""


class Part(BaseModel):
    """A part of the report: every key known, no control character in any string."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, given: Any) -> Any:
        return as_text(given)


class Metric(Part):
    """One number of one deployed file; `value` is null where `missing` says why."""

    value: float | None = Field(description="The number, in `unit`.")
    unit: str = Field(description="Unit; `1` for a share.")
    better: Better = Field(description="Which side is better.")
    spread: float | None = Field(None, description="Half of its 95 % interval, in `unit`.")
    n: int | None = Field(None, description="Observations behind the number.")
    missing: str | None = Field(None, description="Why there is no number.")
    headline: bool = Field(True, description="Whether the short table shows it.")
    provenance: dict[str, Any] = Field({}, description="How, on what and when it was measured.")


class Row(Part):
    """One pipeline of one seed, deployed to one runtime."""

    pipeline: Pipeline = Field(description="The stages in their order; empty for the dense baseline.")
    seed: int = Field(description="Seed of the run.")
    runtime: str = Field(description="Where the file runs.")
    file: Path = Field(description="The deployed file, relative to the run folder.")
    step: str = Field(description="Key of the step that the file was exported from.")
    parity: dict[str, float] = Field(description="How the file's outputs compare with the frozen model's.")
    metrics: dict[str, Metric] = Field(description="Numbers by metric.")

    @property
    def label(self) -> str:
        """The pipeline in words."""
        return in_words(self.pipeline)

    def value(self, metric: str) -> float | None:
        """The metric's number, None if it is missing."""
        found = self.metrics.get(metric)
        return found.value if found else None


class StepRecord(Part):
    """One stage run once."""

    key: str = Field(description="Content key.")
    parent: str | None = Field(description="Key of the step before it.")
    stage: str = Field(description="The stage's name, or `baseline`.")
    epochs: int = Field(description="Epochs it trained.")
    seconds: float = Field(description="Time that making it took, whenever that was.")
    reused: bool = Field(description="Whether it was found in the store.")
    history: list[dict[str, float]] = Field([], description="The training curve, one entry an epoch.")


def lineage(steps: Iterable[StepRecord], key: str) -> list[StepRecord]:
    """The step of that key and those that it was made from, the baseline last; empty where one of them is not there."""
    by_key, line = {step.key: step for step in steps}, list[StepRecord]()
    at: str | None = key
    while at is not None:
        step = by_key.pop(at, None)  # taken out, so that a stranger's report that goes in circles comes to an end
        if step is None:
            return []
        line.append(step)
        at = step.parent
    return line


def in_words(pipeline: Pipeline) -> str:
    """`a -> b -> c`, or what stands for no stage at all."""
    return " -> ".join(pipeline) or "dense baseline"


def by_place(rows: Iterable[Row]) -> dict[Place, dict[int, Row]]:
    """The rows of each pipeline and runtime, by seed, in the order in which they came."""
    places: dict[Place, dict[int, Row]] = {}
    for row in rows:
        places.setdefault((row.pipeline, row.runtime), {})[row.seed] = row
    return places


def compared(rows: Iterable[Row]) -> list[str]:
    """The metrics of the short table of which one side is better, in the order in which they were measured."""
    better = {name: metric.better for row in rows for name, metric in row.metrics.items() if metric.headline}
    return [name for name, side in better.items() if side != "neither"]


def lacking(places: Mapping[Place, Mapping[int, Row]], place: Place, metric: str) -> str | None:
    """`2 of 3 seeds` if others have seeds of the metric that this pipeline lacks: means over other seeds do not
    compare."""
    everywhere = {seed for seeds in places.values() for seed, row in seeds.items() if row.value(metric) is not None}
    found = len(values(places[place], metric))
    return f"{found} of {len(everywhere)} seeds" if found < len(everywhere) else None


def values(seeds: Mapping[int, Row], metric: str) -> list[float]:
    """The metric's number of each seed that has one."""
    return [value for row in seeds.values() if (value := row.value(metric)) is not None]
