"""Training curves: the tree of steps as it was trained, each step going on where its parent ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import altair as alt

from pqd_core import Report
from pqd_report.lineage import Stretch, stretches
from pqd_report.names import Letters, in_arrows
from pqd_report.plots.theme import DASHES, GREY, SOLID, Spec, inline, stage_legend

LEFT_OUT = {"epoch", "seconds"}
FIRST = ("train_accuracy", "loss")
"""Shown first: losses of different stages are not the same quantity."""
POINTS = 120
"""Of a longer curve so many points are drawn, evenly spread."""
DIGITS = 4


def quantities(report: Report) -> list[str]:
    """What was recorded in training, the accuracy first."""
    names = dict.fromkeys(name for step in report.steps for entry in step.history for name in entry)
    found = [name for name in names if name not in LEFT_OUT]
    return sorted(found, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def points(report: Report, letters: Letters) -> list[dict[str, Any]]:
    """One mapping per pipeline, epoch and quantity: the mean over seeds."""
    seeds: dict[tuple[str, ...], list[Stretch]] = defaultdict(list)
    for stretch in stretches(report):
        if stretch.step.history:
            seeds[stretch.pipeline].append(stretch)
    return [point for pipeline, found in seeds.items() for point in _curve(pipeline, found, letters)]


def _curve(pipeline: tuple[str, ...], found: list[Stretch], letters: Letters) -> Iterator[dict[str, Any]]:
    epochs = min(len(stretch.step.history) for stretch in found)
    shown = sorted(
        {round(i * (epochs - 1) / max(1, POINTS - 1)) for i in range(POINTS)} if epochs > POINTS else range(epochs)
    )
    about = {
        "pipeline": in_arrows(pipeline),
        "short": letters.short(pipeline),
        "stage": pipeline[-1] if pipeline else "",
    }
    for i in shown:
        entries = [stretch.step.history[i] for stretch in found]
        for name in entries[0].keys() - LEFT_OUT:
            if all(name in entry for entry in entries):
                mean = float(f"{fmean(entry[name] for entry in entries):.{DIGITS}g}")
                yield {**about, "epoch": found[0].begins + i + 1, "of": name, "value": mean}


def curves(found: list[dict[str, Any]], letters: Letters) -> list[dict[str, Any]]:
    """What is said of each curve as a whole: its dash, and where it goes."""
    dash = {stage: DASHES[i % len(DASHES)] for i, stage in enumerate(letters.stages)}
    points: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for point in found:
        points[f"{point['of']}: {point['pipeline']}"].append(point)
    return [
        {"curve": name, "dash": dash.get(curve[0]["stage"], SOLID), "told": _told(curve)}
        for name, curve in points.items()
    ]


def _told(curve: list[dict[str, Any]]) -> str:
    first, last = curve[0], curve[-1]
    epochs = f"epoch {first['epoch']}" + (f" to {last['epoch']}" if last is not first else "")
    went = f"{first['value']:.4g}" + (f" to {last['value']:.4g}" if last is not first else "")
    return f"{first['pipeline']}, {epochs}: {first['of']} {went}"


def draw(report: Report, letters: Letters, name: str | None = None) -> Spec | None:
    """The curves of one quantity, or of one to be chosen; None if nothing was recorded."""
    found, known = points(report, letters), quantities(report)
    if not found or not known:
        return None
    choice = alt.Undefined if name else alt.binding_select(options=known, name="show ")
    chosen = alt.param(name="quantity", value=name or known[0], bind=choice)
    base = (
        alt.Chart()
        .transform_filter("datum.of == quantity")
        .encode(
            x=alt.X("epoch:Q", title="epoch, from the start of the baseline", axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            detail="pipeline:N",
        )
    )
    whole = alt.LookupData(data=inline(curves(found, letters)), key="curve", fields=["dash", "told"])
    drawn = alt.layer(_lines(base, whole, letters), _marks(base, letters), data=inline(found)).add_params(chosen)
    spec: Spec = drawn.properties(
        width="container",
        height=280,
        description=f"Training curves of {len({p['pipeline'] for p in found})} steps, means over seeds.",
    ).to_dict()
    return spec


BASELINE = alt.datum.stage == ""
LEGEND: dict[str, Any] = {"title": "stage", "legend": stage_legend(symbolSize=90)}
"""One for colours and shapes; a dash around a symbol would make it another symbol."""


def _lines(base: alt.Chart, whole: alt.LookupData, letters: Letters) -> alt.Chart:
    """The curves, each of which can be reached and tells where it goes."""
    hover = alt.selection_point(on="pointerover", fields=["pipeline"], empty=False, name="hover")
    drawn: alt.Chart = (
        base.transform_calculate(curve="datum.of + ': ' + datum.pipeline")
        .transform_lookup(lookup="curve", from_=whole)
        .mark_line(interpolate="monotone", clip=True)
        .encode(
            color=alt.condition(BASELINE, alt.value(GREY), _colour(letters)),
            strokeDash=alt.StrokeDash("dash:N", scale=None),
            strokeWidth=alt.condition(hover, alt.value(4), alt.value(1.6)),
            description=alt.Description("told:N"),
        )
        .add_params(hover)
    )
    return drawn


def _marks(base: alt.Chart, letters: Letters) -> alt.Chart:
    """A mark at each epoch, in the shape of its stage."""
    shapes = alt.Shape("stage:N", scale=alt.Scale(domain=letters.stages), **LEGEND)
    told = [alt.Tooltip("pipeline:N"), alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", format=".4g")]
    drawn: alt.Chart = base.mark_point(size=26, filled=True, opacity=1, aria=False).encode(
        color=alt.condition(BASELINE, alt.value(GREY), _colour(letters)),
        shape=alt.condition(BASELINE, alt.value("circle"), shapes),
        tooltip=told,
    )
    return drawn


def _colour(letters: Letters) -> alt.Color:
    return alt.Color("stage:N", scale=alt.Scale(domain=letters.stages), **LEGEND)
