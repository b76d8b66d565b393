"""What each stage changes by its position: one panel per metric and runtime."""

from __future__ import annotations

from typing import Any

import altair as alt

from pqd_core import Report, short_metric
from pqd_report.names import Letters
from pqd_report.plots.theme import Spec, inline, stage_legend


def panels(report: Report) -> list[tuple[str, str]]:
    """(metric, runtime) of each panel; none if every stage stands at one position only."""
    effects = [effect for effect in report.analysis.effects if effect.position]
    if len({effect.position for effect in effects}) < 2:
        return []
    return list(dict.fromkeys((effect.metric, effect.runtime) for effect in effects))


def draw(report: Report, letters: Letters, metric: str, runtime: str) -> Spec:
    """The panel: a mark for each stage and position, filled where the change is more than noise."""
    found = [_point(e) for e in report.analysis.effects if e.position and (e.metric, e.runtime) == (metric, runtime)]
    points = found[0]["kind"] == "difference"
    unit, neutral = ("points", 0.0) if points else ("times", 1.0)
    scale, offset = alt.Scale(domain=letters.stages), alt.XOffset("stage:N", sort=letters.stages)
    legend = stage_legend()
    base = alt.Chart().encode(
        x=alt.X("position:O", title="position in the pipeline", axis=alt.Axis(labelAngle=0, grid=False))
    )
    title = f"change of {short_metric(metric)} ({unit})"
    value = alt.Y("value:Q", title=title, axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=False, padding=8))
    line = alt.Chart(inline([{"neutral": neutral}])).mark_rule(strokeDash=[4, 4], aria=False).encode(y="neutral:Q")
    bars = base.mark_rule(strokeWidth=2, opacity=0.6, aria=False).encode(y="low:Q", y2="high:Q", xOffset=offset)
    marks = base.mark_point(size=90, strokeWidth=2, opacity=1).encode(
        y=value,
        xOffset=offset,
        stroke=alt.Stroke("stage:N", title=None, scale=scale, legend=legend),
        fill=alt.Fill("stage:N", title=None, scale=scale, legend=legend),
        shape=alt.Shape("stage:N", title=None, scale=scale, legend=legend),
        fillOpacity=alt.condition(alt.datum.beyond_noise, alt.value(0.85), alt.value(0.0)),
        tooltip=[alt.Tooltip(f"{name}:N") for name in ("stage", "position", "change", "interval", "pipelines")],
        description=alt.Description("told:N"),
    )
    told = {"title": f"{short_metric(metric)} on {runtime}", "description": _told(found, metric)}
    known = [bars] if any(point["low"] is not None for point in found) else []
    drawn = alt.layer(line, *known, marks, data=inline(found)).properties(width="container", height=220, **told)
    spec: Spec = drawn.to_dict()
    return spec


def _point(effect: Any) -> dict[str, Any]:
    change = effect.change
    scale = 100 if change.kind == "difference" else 1
    known = change.low is not None and change.high is not None
    return {
        "stage": effect.stage,
        "position": effect.position,
        "kind": change.kind,
        "value": change.value * scale,
        "low": change.low * scale if known else None,
        "high": change.high * scale if known else None,
        "beyond_noise": change.beyond_noise,
        "change": change.text,
        "interval": f"{change.low * scale:.2f} to {change.high * scale:.2f}" if known else "not known",
        "pipelines": effect.edges,
        "told": f"{effect.stage} at position {effect.position}: {change.text}",
    }


def _told(found: list[dict[str, Any]], metric: str) -> str:
    return f"Change of {short_metric(metric)} by stage and position. " + "; ".join(point["told"] for point in found)
