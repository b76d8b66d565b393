"""Which pipeline wins under a goal: the best of a metric among those that keep their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from pydantic import Field

from pqd_core.host.analysis.changes import Estimate, compare
from pqd_core.host.analysis.frontier import beyond_noise
from pqd_core.host.rows import DENSE, Part, Pipeline, Place, Row, lacking, values

ROUNDING = 1e-9
"""0.99 - 0.98 is a drop of 0.01."""
ACCURACY = "accuracy"
ACCURACIES = ("accuracy_validation", ACCURACY)
"""Where accuracy is judged: on images held out from training if there are some, so that nothing is chosen on the test
set."""


class Candidate(Part):
    """How one pipeline in one runtime stands under a goal."""

    pipeline: Pipeline = Field(description="The stages in their order.")
    runtime: str = Field(description="Where the files run.")
    change: Estimate | None = Field(description="Change of accuracy against the dense network; null if not known.")
    value: float | None = Field(description="Mean of the goal's metric over seeds.")
    met: bool = Field(description="Whether it keeps enough accuracy and has the metric.")
    missed_by: float | None = Field(None, description="Accuracy that it loses beyond what the goal allows.")
    incomplete: str | None = Field(
        None, description="How many of the study's seeds it has, if not all: then it cannot win."
    )


class GoalOutcome(Part):
    """Who wins under one goal, in one runtime or over all."""

    metric: str = Field(description="What should be best.")
    unit: str = Field(description="Its unit.")
    max_accuracy_drop: float | None = Field(description="Largest loss of accuracy; null: any.")
    judged_on: str = Field(description="The metric that accuracy was judged by.")
    runtime: str | None = Field(description="Where; null: anywhere.")
    winner: Candidate | None = Field(description="The best that meets the goal; null if none does.")
    runner_up: Candidate | None = Field(None, description="The second best that meets the goal.")
    lead: Estimate | None = Field(
        None, description="Change of the metric from the runner-up to the winner, paired by seed."
    )
    as_good: list[Candidate] = Field(
        [],
        description="Others that meet the goal and that the winner is not better than by more than noise (of numbers "
        "without a spread by 1 %), the best first.",
    )
    candidates: list[Candidate] = Field(description="All that were judged.")


Rows = Mapping[int, Row]


def judged_on(places: Mapping[Place, Rows]) -> str:
    """The metric by which accuracy is judged."""
    return next((name for name in ACCURACIES if any(values(seeds, name) for seeds in places.values())), ACCURACY)


def metric_named(name: str, rows: Iterable[Row]) -> str:
    """The metric of that name, also without its unit: `latency` is `latency_ms`."""
    known = dict.fromkeys(metric for row in rows for metric in row.metrics)
    return name if name in known else next((m for m in known if m.rpartition("_")[0] == name), name)


def judge(
    places: Mapping[Place, Rows], metric: str, max_accuracy_drop: float | None, runtime: str | None = None
) -> GoalOutcome:
    """What comes of the goal for the best `metric` with at most that loss of accuracy."""
    here = {place: seeds for place, seeds in places.items() if runtime in (None, place[1])}
    rows = [row for seeds in here.values() for row in seeds.values()]
    metric, accuracy = metric_named(metric, rows), judged_on(here)
    example = next((row.metrics[metric] for row in rows if metric in row.metrics), None)
    candidates = [_candidate(place, places, metric, accuracy, max_accuracy_drop) for place in here]
    ranked = _ranked(candidates, higher=example is not None and example.better == "higher")
    return GoalOutcome(
        metric=metric,
        unit=example.unit if example else "",
        max_accuracy_drop=max_accuracy_drop,
        judged_on=accuracy,
        runtime=runtime,
        winner=ranked[0] if ranked else None,
        runner_up=ranked[1] if ranked[1:] else None,
        lead=compare(places[_place(ranked[1])], places[_place(ranked[0])], metric) if ranked[1:] else None,
        as_good=[one for one in ranked[1:] if not beyond_noise(places[_place(one)], places[_place(ranked[0])], metric)],
        candidates=candidates,
    )


def _ranked(candidates: Iterable[Candidate], higher: bool) -> list[Candidate]:
    """Those that meet the goal, the best first; of equals the more accurate one."""

    def rank(one: Candidate) -> tuple[float, float]:
        value, accuracy = one.value or 0.0, one.change.value if one.change else 0.0
        return -value if higher else value, -accuracy

    return sorted((one for one in candidates if one.met), key=rank)


def _place(candidate: Candidate) -> Place:
    return candidate.pipeline, candidate.runtime


def _candidate(
    place: Place, places: Mapping[Place, Rows], metric: str, accuracy: str, allowed: float | None
) -> Candidate:
    pipeline, runtime = place
    found, change = values(places[place], metric), compare(places.get((DENSE, runtime), {}), places[place], accuracy)
    over = -change.value - allowed if change and allowed is not None else 0.0
    known, needed = allowed is None or change is not None, [metric] if allowed is None else [metric, accuracy]
    partly = next(filter(None, (lacking(places, place, name) for name in needed)), None) if found else None
    return Candidate(
        pipeline=pipeline,
        runtime=runtime,
        change=change,
        value=fmean(found) if found else None,
        met=bool(found) and known and over <= ROUNDING and partly is None,
        missed_by=over if over > ROUNDING else None,
        incomplete=partly if known else None,
    )
