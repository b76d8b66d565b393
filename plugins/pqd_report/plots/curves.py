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
from pqd_report.plots.theme import GREY, Spec, inline

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


def draw(report: Report, letters: Letters, name: str | None = None) -> Spec | None:
    """The curves of one quantity, or of one to be chosen; None if nothing was recorded."""
    found, known = points(report, letters), quantities(report)
    if not found or not known:
        return None
    choice = alt.Undefined if name else alt.binding_select(options=known, name="show ")
    chosen = alt.param(name="quantity", value=name or known[0], bind=choice)
    hover = alt.selection_point(on="pointerover", fields=["pipeline"], empty=False, name="hover")
    baseline = alt.datum.stage == ""
    colour = alt.Color(
        "stage:N", title="stage", scale=alt.Scale(domain=letters.stages), legend=alt.Legend(orient="bottom")
    )
    drawn = (
        alt.Chart(inline(found))
        .transform_filter("datum.of == quantity")
        .mark_line(interpolate="monotone", point=alt.OverlayMarkDef(size=14), clip=True, aria=False)
        .encode(
            x=alt.X("epoch:Q", title="epoch, from the start of the baseline", axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.condition(baseline, alt.value(GREY), colour),
            detail="pipeline:N",
            strokeWidth=alt.condition(hover, alt.value(4), alt.value(1.6)),
            tooltip=[alt.Tooltip("pipeline:N"), alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", format=".4g")],
        )
        .add_params(chosen, hover)
        .properties(
            width="container",
            height=280,
            description=f"Training curves of {len({p['pipeline'] for p in found})} steps, means over seeds.",
        )
    )
    spec: Spec = drawn.to_dict()
    return spec
