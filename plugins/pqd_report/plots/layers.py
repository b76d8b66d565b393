"""Layer by layer: what the deployed files hold, one column per pipeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import altair as alt
from attrs import frozen

from pqd_core import Report
from pqd_report.names import Letters, in_arrows
from pqd_report.plots.theme import Spec, inline

HEIGHT = 15
"""Of a layer's row, in pixels."""
MOST_TITLES = 20
"""Of more columns than a phone has room for, not each has its title."""


@frozen
class Kind:
    """A number that a measurer gives for each layer, in its metric's provenance."""

    metric: str
    title: str
    format: str
    scale: alt.Scale


KINDS = (
    Kind("sparsity", "share of zero weights", ".0%", alt.Scale(scheme="viridis", domain=[0, 1])),
    Kind("quantization_error", "share of the weights' energy that rounding lost", ".1e", alt.Scale(scheme="cividis")),
)


def cells(report: Report, kind: Kind, letters: Letters, runtime: str) -> list[dict[str, Any]]:
    """One mapping per pipeline and layer: the mean over seeds."""
    found: dict[tuple[tuple[str, ...], str], list[float]] = defaultdict(list)
    for row in report.rows:
        metric = row.metrics.get(kind.metric)
        if metric and row.runtime == runtime:
            for layer, value in _layers(metric.provenance).items():
                found[row.pipeline, layer].append(value)
    places = list(dict.fromkeys(layer for _, layer in found))
    shown = [(pipeline, layer, fmean(values)) for (pipeline, layer), values in found.items() if pipeline]
    return [
        {
            "pipeline": in_arrows(pipeline),
            "short": letters.short(pipeline),
            "layer": layer,
            "value": value,
            "told": f"{layer} of {in_arrows(pipeline)}: {value:{kind.format}}",
        }
        for pipeline, layer, value in sorted(shown, key=lambda cell: places.index(cell[1]))
    ]


def _layers(provenance: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by layer; provenance is free, and may hold something else by that name."""
    layers = provenance.get("layers")
    return layers if isinstance(layers, dict) and all(isinstance(v, int | float) for v in layers.values()) else {}


def runtime_of(report: Report, kind: Kind) -> str | None:
    """The first runtime in which a file tells this number by layer."""
    rows = (row for row in report.rows if kind.metric in row.metrics)
    return next((row.runtime for row in rows if _layers(row.metrics[kind.metric].provenance)), None)


def shown(report: Report, kind: Kind, letters: Letters) -> list[dict[str, Any]]:
    """The cells of the first runtime that tells this number by layer; none where all of them are 0."""
    runtime = runtime_of(report, kind)
    found = cells(report, kind, letters, runtime) if runtime else []
    return found if any(cell["value"] for cell in found) else []


def draw(report: Report, kind: Kind, letters: Letters) -> Spec | None:
    """A row for each layer and a column for each pipeline; None if nothing is known by layer."""
    found, runtime = shown(report, kind, letters), runtime_of(report, kind)
    if not found:
        return None
    layers, pipelines = (list(dict.fromkeys(cell[key] for cell in found)) for key in ("layer", "short"))
    titles = alt.Axis(labelAngle=-60, orient="top", grid=False, labelOverlap=len(pipelines) > MOST_TITLES)
    legend = alt.Legend(orient="bottom", format=kind.format, gradientLength=180)
    drawn = (
        alt.Chart(inline(found))
        .mark_rect(stroke="transparent")
        .encode(
            x=alt.X("short:N", sort=pipelines, title=None, axis=titles),
            y=alt.Y("layer:N", sort=layers, title=None, axis=alt.Axis(grid=False, labelLimit=160, labelOverlap=False)),
            color=alt.Color("value:Q", title=None, scale=kind.scale, legend=legend),
            description=alt.Description("told:N"),
            tooltip=["layer:N", "pipeline:N", alt.Tooltip("value:Q", title=kind.title, format=kind.format)],
        )
        .properties(
            width="container",
            height=HEIGHT * len(layers),
            description=f"{kind.title} of {len(layers)} layers in {len(pipelines)} pipelines on {runtime}.",
        )
    )
    spec: Spec = drawn.to_dict()
    return spec
