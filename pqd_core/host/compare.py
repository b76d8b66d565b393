"""Two runs side by side: what differs in what was asked and where, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from pqd_core.host.analysis.changes import Estimate, compare
from pqd_core.host.analysis.summaries import Summary
from pqd_core.host.rows import Part, Pipeline, by_place, in_words
from pqd_core.host.words import short_metric
from pqd_core.report import Report

IN_TWO_RUNS = "times of two runs were not measured side by side: another load of the machine shows in them"


class Difference(Part):
    """One thing that is not the same in both runs."""

    where: str = Field(description="`spec.` and a key, `environment.` and a key.")
    a: Any = Field(description="In the first run; null: not there.")
    b: Any = Field(description="In the second run; null: not there.")


class Pair(Part):
    """One metric of one pipeline and runtime that both runs have."""

    pipeline: Pipeline = Field(description="The stages in their order.")
    runtime: str = Field(description="Where the files run.")
    metric: str = Field(description="The metric.")
    a: str = Field(description="Mean and spread in the first run, as text.")
    b: str = Field(description="In the second run.")
    change: Estimate | None = Field(description="From the first to the second, paired by seed; null without a pair.")


class Comparison(Part):
    """What differs between two runs."""

    a: str = Field(description="The first run.")
    b: str = Field(description="The second run.")
    differences: list[Difference] = Field(description="In spec, machine and versions.")
    pairs: list[Pair] = Field(description="What both runs have, for the metrics of the short table.")
    only_a: list[str] = Field(description="Pipelines on runtimes that only the first run has.")
    only_b: list[str] = Field(description="And only the second.")

    @property
    def cautions(self) -> list[str]:
        """What to think of in reading it."""
        return [IN_TWO_RUNS] if any(pair.metric.endswith("_ms") for pair in self.pairs) else []


def compare_runs(a: Report, b: Report) -> Comparison:
    """The comparison of two reports; differences in results are paired by seed where both have the seed."""
    both = [
        (one, other) for one in a.analysis.summaries for other in b.analysis.summaries if _place(one) == _place(other)
    ]
    return Comparison(
        a=str(a.folder),
        b=str(b.folder),
        differences=[*_differences("spec", a.spec, b.spec), *_differences("environment", a.environment, b.environment)],
        pairs=[pair for one, other in both for pair in _pairs(one, other, a, b)],
        only_a=_only(a, b),
        only_b=_only(b, a),
    )


def _place(summary: Summary) -> tuple[Pipeline, str]:
    return summary.pipeline, summary.runtime


def _only(these: Report, those: Report) -> list[str]:
    known = set(map(_place, those.analysis.summaries))
    return [f"{s.label} on {s.runtime}" for s in these.analysis.summaries if _place(s) not in known]


def _pairs(one: Summary, other: Summary, a: Report, b: Report) -> Iterator[Pair]:
    before, after = (by_place(report.rows)[_place(one)] for report in (a, b))
    for name, cell in one.cells.items():
        if cell.headline and name in other.cells:
            yield Pair(
                pipeline=one.pipeline,
                runtime=one.runtime,
                metric=name,
                a=cell.text,
                b=other.cells[name].text,
                change=compare(before, after, name),
            )


def _differences(where: str, a: Any, b: Any) -> Iterator[Difference]:
    """Leaves of two trees of mappings and lists that are not equal, by their dotted place."""
    left, right = dict(_leaves(where, a)), dict(_leaves(where, b))
    for place in dict.fromkeys([*left, *right]):
        if left.get(place) != right.get(place):
            yield Difference(where=place, a=left.get(place), b=right.get(place))


def _leaves(where: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(f"{where}.{key}", value)
    elif isinstance(tree, Sequence) and not isinstance(tree, str) and any(isinstance(v, Mapping) for v in tree):
        for i, value in enumerate(tree):
            yield from _leaves(f"{where}.{i}", value)
    else:
        yield where, tree


def comparison_text(found: Comparison) -> Iterator[str]:
    """The comparison line by line: first what was not the same, then what came of it."""
    yield f"{found.a} -> {found.b}"
    yield "asked and run alike" if not found.differences else "what is not the same:"
    yield from (f"  {d.where}: {_told(d.a)} -> {_told(d.b)}" for d in found.differences)
    for place, pairs in _by_place(found.pairs).items():
        yield place
        yield from (f"  {short_metric(p.metric)}: {p.a} -> {p.b}{_change(p.change)}" for p in pairs)
    yield from found.cautions
    for run, only in ((found.a, found.only_a), (found.b, found.only_b)):
        yield from (f"only in {run}: {place}" for place in only)


def _by_place(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    places: dict[str, list[Pair]] = {}
    for pair in pairs:
        places.setdefault(f"{in_words(pair.pipeline)} on {pair.runtime}", []).append(pair)
    return places


def _told(value: Any) -> str:
    return "not there" if value is None else str(value)


def _change(change: Estimate | None) -> str:
    if change is None:
        return ""
    told = change.kind == "ratio" or change.beyond_noise or not change.value
    noise = "" if told else ", within the noise"
    return f" ({change.text}{noise})"
