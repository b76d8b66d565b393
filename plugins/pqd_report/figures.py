"""All plots of a report, each with the place where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from pqd_core import Comparison, Report, short_metric
from pqd_report.names import Letters, file_name
from pqd_report.plots import changes, curves, effects, frontier, layers
from pqd_report.plots.labels import label_patch
from pqd_report.plots.theme import Spec


@frozen
class Figure:
    """One plot: its name on the page and as a file, what it shows, and how."""

    name: str
    section: str
    title: str
    spec: Spec
    patch: list[dict[str, Any]] | None = None
    """Changes of the compiled chart, as a JSON Patch."""


def figures(report: Report, letters: Letters, quantity: str | None = None) -> Iterator[Figure]:
    """The plots that the report has data for; curves of `quantity`, of one to be chosen if None."""
    taken: set[str] = set()
    for figure in _drawn(report, letters, quantity):
        yield evolve(figure, name=file_name(figure.name, taken))


def _drawn(report: Report, letters: Letters, quantity: str | None) -> Iterator[Figure]:
    for runtime in dict.fromkeys(row.runtime for row in report.rows):
        if spec := frontier.draw(report, letters, runtime):
            patch = label_patch(spec, frontier.DISCS, "short")
            yield Figure(f"frontier-{runtime}", "frontier", f"Accuracy against latency on {runtime}", spec, patch)
    for metric, runtime in effects.panels(report):
        spec = effects.draw(report, letters, metric, runtime)
        yield Figure(f"effect-{metric}-{runtime}", "effects", str(spec["title"]), spec)
    if spec := curves.draw(report, letters, quantity):
        yield Figure("curves", "curves", quantity or "Training curves", spec)
    for kind in layers.KINDS:
        if spec := layers.draw(report, kind, letters):
            yield Figure(f"layers-{kind.metric}", "layers", kind.title, spec)


def comparison_figures(found: Comparison, letters: Letters) -> Iterator[Figure]:
    """The plots of two runs."""
    taken: set[str] = set()
    for metric, runtime, spec in changes.panels(found, letters):
        title = f"{short_metric(metric)} on {runtime}"
        yield Figure(file_name(f"change-{metric}-{runtime}", taken), "changes", title, spec)


def stages_of(report: Report) -> list[str]:
    """The stages, those of the written order first."""
    return list(dict.fromkeys([*report.analysis.written, *(stage for row in report.rows for stage in row.pipeline)]))
