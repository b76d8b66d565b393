"""Accuracy against latency, size as area: one panel per runtime."""

from __future__ import annotations

from typing import Any

import altair as alt

from pqd_core import Report, Summary
from pqd_report.names import Letters, in_arrows
from pqd_report.plots.theme import GREY, Spec, inline, stage_legend

ACCURACY, LATENCY, SIZE = "accuracy", "latency_ms", "size_bytes"
LARGEST_AREA = 620
NEAR, LINE = 0.12, 0.04
"""Labels at latencies this near, as a share of the plot, are kept one line apart, also as a share."""
SCALE = alt.Scale(zero=False, padding=22)
ROOM = 0.1
"""Above and below the marks, as a share of what they span."""
DISCS = "discs"
STANDINGS = {"frontier": "best trade", "tied": "dominated, within the noise", "dominated": "dominated"}


def points(report: Report, letters: Letters, runtime: str) -> list[dict[str, Any]]:
    """One mapping per pipeline that has all three numbers there."""
    return [
        point
        for summary in report.analysis.summaries
        if summary.runtime == runtime and (point := _point(summary, letters))
    ]


def spread_labels(found: list[dict[str, Any]]) -> None:
    """Each point has a height for its label, `label_at`, that leaves room for those of points at about its latency.

    A browser lays labels out anew; this is for pictures that are made without one.
    """
    tall, wide = _span(found, "accuracy"), _span(found, "latency")
    placed: list[dict[str, Any]] = []
    for point in sorted(found, key=lambda point: -float(point["accuracy"])):
        near = [p["label_at"] for p in placed if abs(p["latency"] - point["latency"]) <= wide * NEAR]
        point["label_at"] = min([point["accuracy"], *(at - tall * LINE for at in near)])
        placed.append(point)


def _point(summary: Summary, letters: Letters) -> dict[str, Any] | None:
    cells = [summary.cells.get(name) for name in (ACCURACY, LATENCY, SIZE)]
    accuracy, latency, size = (cell.mean if cell else None for cell in cells)
    if accuracy is None or latency is None or size is None:
        return None
    standing = summary.standing.status if summary.standing else None
    told = {
        "pipeline": in_arrows(summary.pipeline),
        "accuracy": _number(summary, ACCURACY),
        "latency": _number(summary, LATENCY),
        "size": _number(summary, SIZE),
        "standing": STANDINGS[standing] if standing else f"incomplete: {summary.incomplete}",
    }
    return {
        "pipeline": in_arrows(summary.pipeline),
        "short": letters.short(summary.pipeline),
        "first": summary.pipeline[0] if summary.pipeline else "",
        "accuracy": accuracy,
        "latency": latency,
        "size": size,
        **_accuracy_ends(accuracy, cells[0].spread if cells[0] else None),
        **_ends("latency", latency, cells[1].spread if cells[1] else None),
        "open": standing != "frontier",
        **{f"{name} is": text for name, text in told.items()},
        "told": ", ".join(told.values()),
    }


def _ends(name: str, mean: float, spread: float | None) -> dict[str, float]:
    return {f"{name}_low": mean - (spread or 0), f"{name}_high": mean + (spread or 0)}


def _span(found: list[dict[str, Any]], name: str) -> float:
    """What the axis spans, about: all marks with their spreads."""
    span: float = max(point[f"{name}_high"] for point in found) - min(point[f"{name}_low"] for point in found)
    return span * (1 + 2 * ROOM)


def _accuracy_ends(mean: float, spread: float | None) -> dict[str, float]:
    return {name: _within(end, mean) for name, end in _ends("accuracy", mean, spread).items()}


def _within(end: float, *known: float) -> float:
    """`end`, but no share above all or below nothing where what is `known` are shares."""
    return min(max(end, 0.0), 1.0) if all(0 <= share <= 1 for share in known) else end


def _accuracies(found: list[dict[str, Any]]) -> alt.Scale:
    """An axis with room for the marks, which ends where accuracy does."""
    ends = [point[end] for point in found for end in ("accuracy_low", "accuracy_high")]
    room = ROOM * (max(ends) - min(ends)) or ROOM * ROOM
    low, high = _within(min(ends) - room, *ends), _within(max(ends) + room, *ends)
    return alt.Scale(domain=[low, high], nice=True, zero=False)


def _number(summary: Summary, name: str) -> str:
    cell = summary.cells[name]
    against = f", {cell.against_dense.text} against dense" if cell.against_dense else ""
    return cell.text + against


def draw(report: Report, letters: Letters, runtime: str) -> Spec | None:
    """The panel of a runtime; None where no pipeline has all three numbers."""
    found = points(report, letters, runtime)
    if not found:
        return None
    spread_labels(found)
    base = alt.Chart().encode(
        x=alt.X("latency:Q", title="latency (ms)", axis=alt.Axis(tickCount=5), scale=SCALE),
        y=alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(tickCount=6, format=".1%"), scale=_accuracies(found)),
    )
    across = base.mark_rule(opacity=0.45, aria=False).encode(x="latency_low:Q", x2="latency_high:Q")
    up = base.mark_rule(opacity=0.45, aria=False).encode(y="accuracy_low:Q", y2="accuracy_high:Q")
    labels = base.mark_text(align="left", dx=14, fontSize=11, aria=False).encode(text="short:N", y="label_at:Q")
    drawn = alt.layer(across, up, _discs(base, found, letters), labels, data=inline(found))
    spec: Spec = drawn.properties(width="container", height=340, description=_told(runtime, found)).to_dict()
    return spec


def _discs(base: alt.Chart, found: list[dict[str, Any]], letters: Letters) -> alt.Chart:
    hover = alt.selection_point(on="pointerover", empty=False, fields=["pipeline"], name="hover")
    dense = alt.datum.first == ""
    legend = stage_legend(values=[s for s in letters.stages if any(p["first"] == s for p in found)])
    told = ("pipeline", "accuracy", "latency", "size", "standing")
    first: dict[str, Any] = {"title": "first stage", "scale": alt.Scale(domain=letters.stages), "legend": legend}
    discs: alt.Chart = (
        base.properties(name=DISCS)
        .mark_point(strokeWidth=2, opacity=1)
        .encode(
            size=alt.Size("size:Q", legend=None, scale=alt.Scale(range=[0, LARGEST_AREA], domainMin=0)),
            stroke=alt.condition(dense, alt.value(GREY), alt.Stroke("first:N", **first)),
            fill=alt.condition(dense, alt.value(GREY), alt.Fill("first:N", **first)),
            shape=alt.condition(dense, alt.value("circle"), alt.Shape("first:N", **first)),
            fillOpacity=alt.condition(alt.datum.open, alt.value(0.0), alt.value(0.6)),
            strokeWidth=alt.condition(hover, alt.value(4), alt.value(2)),
            tooltip=[alt.Tooltip(f"{name} is:N", title=name) for name in told],
            description=alt.Description("told:N"),
        )
        .add_params(hover)
    )
    return discs


def _told(runtime: str, found: list[dict[str, Any]]) -> str:
    best = "; ".join(point["pipeline"] for point in found if not point["open"])
    return f"Accuracy against latency of {len(found)} pipelines on {runtime}, size as area. Best trades: {best}."
