"""Where a stage cost something, and where it gained nothing and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pqd_core.host.analysis.changes import interval
from pqd_core.host.analysis.effects import Edge, edges, mean_of, within_seeds
from pqd_core.host.analysis.summaries import Cell, Summary
from pqd_core.host.rows import Place, Row, by_place
from pqd_core.host.words import by_runtime, quantity, short_metric

SAME = 0.05
"""A change is known to be none worth a word if its whole interval is nearer to none than this share."""
Reasons = Mapping[str, Mapping[str, str]]
"""By stage and metric: why the stage may leave the metric where it was."""
Summaries = Mapping[Place, Summary]


def stage_verdicts(rows: Sequence[Row], summaries: Sequence[Summary], reasons: Reasons) -> Iterator[str]:
    """For each stage and metric a sentence where it made it worse, and what of it where a stage may leave it."""
    by = {(summary.pipeline, summary.runtime): summary for summary in summaries}
    groups: dict[tuple[str, str], dict[str, list[Edge]]] = {}
    for edge in edges(by_place(rows)):
        groups.setdefault((edge.stage, edge.metric), {}).setdefault(edge.runtime, []).append(edge)
    for (stage, metric), runtimes in groups.items():
        reason, name = reasons.get(stage, {}).get(metric), short_metric(metric)
        if worse := _told(runtimes, "worse", by):
            yield f"{stage} made {name} worse, {worse}"
        if reason and (same := _told(runtimes, "same", by)):
            yield f"{stage} left {name} where it was, {same}: {reason}"
        if reason and (open_ := _told(runtimes, "open", by)):
            yield f"{stage}: no change of {name} beyond noise, {open_}"


def _told(runtimes: Mapping[str, Sequence[Edge]], outcome: str, by: Summaries) -> str:
    """Where that is what came of it: `10 ms to 20 ms on a`; of several places the mean, and how far they go."""
    chosen = {runtime: here for runtime, here in runtimes.items() if _outcome(here, by) == outcome}
    return by_runtime({r: _values(here[0], by) if len(here) == 1 else _span(here) for r, here in chosen.items()})


def _outcome(here: Sequence[Edge], by: Summaries) -> str:
    change = mean_of(here)
    if _is_small(here, by) and (change.kind == "ratio" or not change.beyond_noise):
        return "same"
    if not change.beyond_noise:
        return "open"
    rose = change.value > (1 if change.kind == "ratio" else 0)
    return "worse" if rose == (_cells(here[0], by)[1].better == "lower") else "better"


def _is_small(here: Sequence[Edge], by: Summaries) -> bool:
    """The change's whole interval lies within 5 % of no change."""
    found = within_seeds(here)
    low, high = interval(found)
    if next(iter(found.values())).kind == "ratio":
        return low >= 1 - SAME and high <= 1 + SAME
    allowed = SAME * abs(_cells(here[0], by)[0].mean or 0.0)
    return -allowed <= low and high <= allowed


def _cells(edge: Edge, by: Summaries) -> tuple[Cell, Cell]:
    before, after = (by[pipeline, edge.runtime] for pipeline in (edge.before, (*edge.before, edge.stage)))
    return before.cells[edge.metric], after.cells[edge.metric]


def _values(edge: Edge, by: Summaries) -> str:
    return " to ".join(quantity(cell.mean or 0.0, cell.unit) for cell in _cells(edge, by))


def _span(here: Sequence[Edge]) -> str:
    changes = sorted((mean_of([edge]) for edge in here), key=lambda change: change.value)
    least, most, mean = changes[0].text, changes[-1].text, mean_of(here).text
    ends = "" if least == most else f" ({least} to {most})"
    return f"{mean} on average over {len(here)} places{ends}"
