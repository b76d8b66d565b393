"""What a result is for: the metric to win at, and what may be lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from pqd_core.host.entries import Entry
from pqd_core.host.errors import did_you_mean
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.words import short_metric
from pqd_core.records import MetricDef, Settings

ACCURACY = "accuracy"


class Goal(Settings):
    """The pipeline to name: best at `metric` among those that keep the accuracy."""

    metric: str = Field(description="What to be best at: `latency`, `size`, or any metric that is measured.")
    max_accuracy_drop: float | None = Field(
        None,
        ge=0,
        validation_alias=AliasChoices("max_accuracy_drop", "max-accuracy-drop"),
        description="Largest loss of accuracy against the dense network, as a share (0.01 is one point); any if unset.",
    )
    runtime: str | None = Field(None, description="Where; each runtime by itself if unset.")


def checked_goals(goals: Sequence[Goal], info: ValidationInfo) -> tuple[Goal, ...]:
    """The goals with their metrics' full names (`latency_ms` for `latency`); the spec's other fields are in `info`.

    Raises:
        ValidationError: a metric that nothing measures, or that has no better side; a runtime that is not used.
    """
    host: Host = (info.context or {}).get("host") or default_host()
    metrics = {m.name: m for record in _records(info.data["measure"], host, "measurer") for m in record.metrics}
    runtimes = [record.name for record in _records(info.data.get("runtimes"), host, "runtime")]
    checked, problems = [], []
    for i, goal in enumerate(goals):
        name = _full_name(goal.metric, metrics)
        checked.append(goal.model_copy(update={"metric": name}))
        for key, message in _mistakes(goal, name, metrics, runtimes).items():
            kind = PydanticCustomError("goal", "{message}", {"message": message})
            problems.append(InitErrorDetails(type=kind, loc=(i, key), input=getattr(goal, key)))
    if problems:
        raise ValidationError.from_exception_data("goals", problems)
    return tuple(checked)


def _records(entries: Sequence[Entry] | None, host: Host, noun: str) -> list[Any]:
    """The records that the spec names, or all that are installed."""
    return [owned.record for owned in (host.registry(noun) if entries is None else entries)]


def _full_name(metric: str, metrics: dict[str, MetricDef]) -> str:
    return next((name for name in metrics if metric in (name, short_metric(name))), metric)


def _mistakes(goal: Goal, name: str, metrics: dict[str, MetricDef], runtimes: list[str]) -> dict[str, str]:
    """What is wrong with a goal, by key."""
    known, found = [short_metric(name) for name in metrics], {}
    if name not in metrics:
        found["metric"] = f"'{goal.metric}' is not measured here; {did_you_mean(goal.metric, known)}"
    elif metrics[name].better == "neither":
        found["metric"] = f"neither more nor less {goal.metric} is better by itself; choose another metric"
    drop = goal.max_accuracy_drop
    if drop is not None and drop >= 1:
        found["max_accuracy_drop"] = (
            f"{drop:g} is {drop * 100:g} points of accuracy; write 0.01 for one, or leave it out"
        )
    if drop is not None and ACCURACY not in metrics:
        found["max_accuracy_drop"] = "accuracy is not measured here; add its measurer to 'measure'"
    if goal.runtime not in (None, *runtimes):
        found["runtime"] = f"'{goal.runtime}' is not deployed to; {did_you_mean(str(goal.runtime), runtimes)}"
    return found
