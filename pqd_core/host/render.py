"""The report as a table and as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pqd_core.host.words import counted, short_metric

if TYPE_CHECKING:
    from pqd_core.host.analysis.summaries import Cell, Summary
    from pqd_core.host.rows import Pipeline
    from pqd_core.report import Report

CSV_COLUMNS = (
    *("pipeline", "seed", "runtime", "metric", "value", "unit", "better", "spread", "n", "missing", "file", "epochs"),
)


def _cell(summary: Summary, name: str, of: int) -> str:
    cell = summary.cells.get(name)
    if cell is None:
        return ""
    if cell.mean is None:
        return cell.text
    seeds = "" if cell.n == of else f" [{cell.n} of {of} seeds]"
    return f"{cell.text}{_against_dense(cell)}{seeds}"


def _against_dense(cell: Cell) -> str:
    if change := cell.against_dense:
        return f" ({change.text.removesuffix(' points')})"
    return ""


def columns(report: Report) -> list[str]:
    """The metrics of the short table, in the order in which they were measured."""
    cells = (item for summary in report.analysis.summaries for item in summary.cells.items())
    return list(dict.fromkeys(name for name, cell in cells if cell.headline))


def grid(report: Report) -> tuple[list[str], list[list[str]]]:
    """The short table: its header, and the cells of each line."""
    metrics = columns(report)
    header = ["pipeline", "runtime", "epochs", *map(short_metric, metrics)]
    seeds = len(report.analysis.seeds)
    return header, [
        [s.label, s.runtime, stage_epochs(report, s.pipeline), *(_cell(s, name, seeds) for name in metrics)]
        for s in report.analysis.summaries
    ]


def stage_epochs(report: Report, pipeline: Pipeline) -> str:
    """What the column `epochs` says: nothing of the dense baseline, whose epochs the legend tells."""
    epochs = report.epochs(pipeline) if pipeline else None
    return "" if epochs is None else str(epochs)


def legend(report: Report) -> str:
    """What the table's signs mean."""
    seeds = len(report.analysis.seeds)
    spread = "half of the 95 % interval" if seeds == 1 else f"the standard deviation over {seeds} seeds"
    told = f"`±` is {spread}; in brackets, points of difference or the ratio to the dense network"
    return f"{told}; {epochs_legend(report)}."


def epochs_legend(report: Report) -> str:
    """What the column `epochs` counts."""
    before = f", after the {counted(report.baseline_epochs, 'epoch')} of the baseline" if report.baseline_epochs else ""
    return f"`epochs` are those of the stages{before}"


def render_table(report: Report, width: int | None = None, colour: bool = False) -> str:
    """The short table with box lines, as wide as it has to be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    header, rows = grid(report)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="left" if i < 2 else "right", overflow="fold")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before[0] != row[0]:
            table.add_section()
        table.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=width or 400, force_terminal=colour, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def render_csv(report: Report) -> str:
    """One line per row and metric."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        epochs = stage_epochs(report, row.pipeline)
        for name, metric in row.metrics.items():
            values = {key: getattr(metric, key) for key in ("value", "unit", "better", "spread", "n", "missing")}
            place = {"pipeline": "+".join(row.pipeline), "seed": row.seed, "runtime": row.runtime, "file": row.file}
            writer.writerow({**place, "metric": name, **values, "epochs": epochs})
    return text.getvalue()
