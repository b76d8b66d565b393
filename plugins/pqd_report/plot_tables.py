"""What the plots of training and of layers show, as tables: for whoever reads numbers rather than colours."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pqd_core import Report
from pqd_report.names import Letters
from pqd_report.plots import curves, layers
from pqd_report.tables import Shown, Table

Point = dict[str, Any]


def curve_table(report: Report, letters: Letters) -> Table:
    """A line for each step: its epochs, and from where to where each recorded quantity went."""
    steps: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in curves.points(report, letters):
        steps[point["pipeline"]][point["of"]].append(point)
    names = curves.quantities(report)
    rows = [
        [Shown(pipeline), _epochs(next(iter(of.values()))), *(_went(of.get(name, [])) for name in names)]
        for pipeline, of in steps.items()
    ]
    header = ["step", "epochs", *names]
    return Table("Where each curve begins and ends", header, rows, frozenset(range(1, len(header))))


def _epochs(curve: list[Point]) -> Shown:
    first, last = curve[0]["epoch"], curve[-1]["epoch"]
    return Shown(str(first) if first == last else f"{first} to {last}", sort=last)


def _went(curve: list[Point]) -> Shown:
    if not curve:
        return Shown("")
    first, last = curve[0]["value"], curve[-1]["value"]
    return Shown(f"{last:.4g}", "" if len(curve) == 1 else f"from {first:.4g}", last)


def layer_tables(report: Report, letters: Letters) -> list[Table]:
    """For each number that is known by layer: a line for each layer, a column for each pipeline."""
    return [table for kind in layers.KINDS if (table := _layers(report, kind, letters))]


def _layers(report: Report, kind: layers.Kind, letters: Letters) -> Table | None:
    found = layers.shown(report, kind, letters)
    values = {(cell["layer"], cell["short"]): cell["value"] for cell in found}
    names, pipelines = (list(dict.fromkeys(cell[key] for cell in found)) for key in ("layer", "short"))
    rows = [
        [Shown(layer, sort=i), *(_value(values, layer, p, kind) for p in pipelines)] for i, layer in enumerate(names)
    ]
    caption = f"By layer: {kind.title}"
    return Table(caption, ["layer", *pipelines], rows, frozenset(range(1, 1 + len(pipelines)))) if rows else None


def _value(values: dict[tuple[str, str], float], layer: str, pipeline: str, kind: layers.Kind) -> Shown:
    value = values.get((layer, pipeline))
    return Shown("") if value is None else Shown(format(value, kind.format), sort=value)
