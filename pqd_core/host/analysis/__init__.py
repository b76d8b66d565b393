"""What the rows of a study say: a pure function of them, over seeds, orders and stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from pqd_core.host.analysis.effects import Effect, edges, effects
from pqd_core.host.analysis.frontier import incomplete, standings
from pqd_core.host.analysis.goals import GoalOutcome, judge
from pqd_core.host.analysis.orders import OrderTest, compare_orders
from pqd_core.host.analysis.summaries import Summary, summarize
from pqd_core.host.rows import DENSE, Part, Pipeline, Place, Row, by_place


class Analysis(Part):
    """The rows over their seeds. Differences are paired by seed; `docs/report.md` says what each statistic means."""

    seeds: list[int] = Field(description="The seeds.")
    written: Pipeline = Field(description="The order that the others are compared with.")
    summaries: list[Summary] = Field(description="Each pipeline in each runtime.")
    orders: list[OrderTest] = Field(description="Whether order matters, for each set of stages with several orders.")
    effects: list[Effect] = Field(description="What each stage changes, by position and by what came before it.")
    goals: list[GoalOutcome] = Field(description="Who wins under each goal of the spec.")


def analyse(rows: Sequence[Row], spec: Mapping[str, Any]) -> Analysis:
    """What `rows` say, read with the spec's written order and its goals."""
    places = by_place(rows)
    written = written_order(rows, spec)
    summaries, standing, parts = summarize(places, written), standings(places), incomplete(places)
    for summary in summaries:
        place = summary.pipeline, summary.runtime
        summary.standing, summary.incomplete = standing.get(place), parts.get(place)
    return Analysis(
        seeds=sorted({row.seed for row in rows}),
        written=written,
        summaries=summaries,
        orders=compare_orders(places),
        effects=effects(edges(places)),
        goals=list(_goals(places, spec.get("goals") or ())),
    )


def _goals(places: Mapping[Place, Mapping[int, Row]], goals: Iterable[Mapping[str, Any]]) -> Iterator[GoalOutcome]:
    """The outcome of each goal in its runtime, or in each runtime by itself."""
    everywhere = list(dict.fromkeys(runtime for _, runtime in places))
    for goal in goals:
        for runtime in [goal["runtime"]] if goal.get("runtime") else everywhere:
            yield judge(places, goal["metric"], goal.get("max_accuracy_drop"), runtime)


def written_order(rows: Sequence[Row], spec: Mapping[str, Any]) -> Pipeline:
    """The spec's own order if it was run, else the first pipeline with the most stages."""
    names = [str(stage["use"]).rpartition(":")[2] for stage in spec.get("stages") or ()]
    for row in rows:
        if len(row.pipeline) == len(names) and all(map(_is, row.pipeline, names, range(1, len(names) + 1))):
            return row.pipeline
    return max((row.pipeline for row in rows), key=len, default=DENSE)


def _is(name: str, written: str, place: int) -> bool:
    """A stage that stands twice with different settings carries its place in the spec: `magnitude@3`."""
    return name in (written, f"{written}@{place}")
