"""What changed from one run to another: one panel per metric and runtime, a mark for each pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from pqd_core import Comparison, Estimate, short_metric
from pqd_report.names import Letters, in_arrows
from pqd_report.plots.theme import GREY, Spec, inline

HEIGHT = 20
"""Of a pipeline's line, in pixels."""


Changes = list[tuple[Sequence[str], Estimate]]
"""The change of each pipeline."""


def panels(found: Comparison, letters: Letters) -> Iterator[tuple[str, str, Spec]]:
    """(metric, runtime, plot) of each metric that is not the same in both runs."""
    for (metric, runtime), changes in _by_place(found).items():
        if not _are_none(changes):
            known = [_point(pipeline, change, letters) for pipeline, change in changes]
            yield metric, runtime, _draw(known, f"change of {short_metric(metric)} on {runtime}")


def unchanged(found: Comparison) -> list[str]:
    """What is the same in both runs, to the last digit, in every pipeline and seed: metrics and their runtimes."""
    runtimes: dict[str, list[str]] = {}
    for (metric, runtime), changes in _by_place(found).items():
        if _are_none(changes):
            runtimes.setdefault(short_metric(metric), []).append(runtime)
    places: dict[str, list[str]] = {}
    for metric, where in runtimes.items():
        places.setdefault(" and ".join(where), []).append(metric)
    return [f"{', '.join(metrics)} on {where}" for where, metrics in places.items()]


def _by_place(found: Comparison) -> dict[tuple[str, str], Changes]:
    places: dict[tuple[str, str], Changes] = {}
    for pair in found.pairs:
        if pair.change:
            places.setdefault((pair.metric, pair.runtime), []).append((pair.pipeline, pair.change))
    return places


def _are_none(changes: Changes) -> bool:
    return all(
        {change.value, change.student_low, change.student_high} <= {0.0 if change.kind == "difference" else 1.0, None}
        for _, change in changes
    )


def _point(pipeline: Sequence[str], change: Estimate, letters: Letters) -> dict[str, Any]:
    scale = 100 if change.kind == "difference" else 1
    known = change.student_low is not None and change.student_high is not None
    ends = (change.student_low or 0.0, change.student_high or 0.0) if known else (change.value, change.value)
    low, high = (end * scale for end in ends)
    interval = f"{low:.2f} to {high:.2f}" if known else "not known with one seed"
    return {
        "pipeline": in_arrows(pipeline),
        "short": letters.short(pipeline),
        "kind": change.kind,
        "value": change.value * scale,
        "low": low,
        "high": high,
        "beyond_noise": change.beyond_noise,
        "change": change.text,
        "interval": interval,
        "seeds": change.n,
        "told": f"{in_arrows(pipeline)}: {change.text}, interval {interval}",
    }


def _draw(found: list[dict[str, Any]], title: str) -> Spec:
    points = found[0]["kind"] == "difference"
    names = list(dict.fromkeys(point["short"] for point in found))
    rule = alt.Chart(inline([{"none": 0.0 if points else 1.0}])).mark_rule(strokeDash=[4, 4], aria=False)
    base = alt.Chart().encode(y=alt.Y("short:N", sort=names, title=None, axis=alt.Axis(grid=False, labelOverlap=False)))
    value = alt.X(
        "value:Q", title=f"{title} ({'points' if points else 'times'})", scale=alt.Scale(zero=False, padding=8)
    )
    marks = base.mark_point(size=80, strokeWidth=2, opacity=1, shape="circle").encode(
        x=value,
        fillOpacity=alt.condition(alt.datum.beyond_noise, alt.value(0.85), alt.value(0.0)),
        stroke=alt.value(GREY),
        fill=alt.value(GREY),
        tooltip=[alt.Tooltip(f"{name}:N") for name in ("pipeline", "change", "interval", "seeds")],
        description=alt.Description("told:N"),
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.6, aria=False).encode(x="low:Q", x2="high:Q")
    drawn = alt.layer(rule.encode(x="none:Q"), bars, marks, data=inline(found))
    told = f"{title}. " + "; ".join(point["told"] for point in found)
    spec: Spec = drawn.properties(width="container", height=HEIGHT * len(names), description=told).to_dict()
    return spec
