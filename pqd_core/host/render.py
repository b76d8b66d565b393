"""The report for people: a table for the terminal, Markdown, and CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pqd_core.report import Metric, Report, Row

CSV_COLUMNS = ("pipeline", "seed", "runtime", "metric", "value", "unit", "better", "spread", "n", "missing", "file")
TITLES = {"1": "", "ms": "ms", "bytes": "kB"}


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def quantity(value: float, unit: str) -> str:
    """A number as a person reads it: shares in percent, bytes in kB or MB, three or four digits."""
    if unit == "1":
        return f"{value * 100:.2f} %"
    if unit == "bytes":
        return f"{value / 1e3:,.0f} kB" if value < 1e7 else f"{value / 1e6:,.1f} MB"
    if value >= 1e6:
        return f"{value / 1e6:,.1f} M {unit}".rstrip()
    return f"{value:#.3g} {unit}" if abs(value) < 100 else f"{value:,.0f} {unit}"


def _cell(row: Row, name: str, report: Report) -> str:
    metric = row.metrics.get(name)
    if metric is None:
        return ""
    if metric.value is None:
        return "missing"
    spread = f" ± {_bare(metric.spread, metric.unit)}" if metric.spread is not None else ""
    return f"{quantity(metric.value, metric.unit)}{spread}{_against_dense(metric, name, row, report)}"


def _bare(spread: float, unit: str) -> str:
    return f"{spread * 100:.2f}" if unit == "1" else f"{spread / 1e3:.0f}" if unit == "bytes" else f"{spread:.2g}"


def _against_dense(metric: Metric, name: str, row: Row, report: Report) -> str:
    dense = report.dense(row)
    before = dense.value(name) if dense and row.pipeline else None
    if before is None or metric.value is None or metric.better == "neither":
        return ""
    if metric.unit == "1":
        return f" ({(metric.value - before) * 100:+.2f})"
    return f" ({metric.value / before:.2f}x)" if before else ""


def columns(report: Report) -> list[str]:
    """The metrics of the short table, in the order in which they were measured."""
    return list(dict.fromkeys(n for row in report.rows for n, m in row.metrics.items() if m.headline))


def _grid(report: Report) -> tuple[list[str], list[list[str]]]:
    metrics = columns(report)
    header = ["pipeline", "runtime", *(name.removesuffix("_ms").removesuffix("_bytes") for name in metrics)]
    rows = [[row.label, row.runtime, *(_cell(row, name, report) for name in metrics)] for row in report.rows]
    return header, rows


def render_table(report: Report, width: int | None = None, colour: bool = False) -> str:
    """The short table with box lines, as wide as it has to be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    header, rows = _grid(report)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i < 2 else "right", overflow="fold")
    for before, row in zip([None, *report.rows], rows, strict=False):
        if before is not None and before.label != row[0]:
            table.add_section()
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=width or 400, force_terminal=colour, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def render_markdown(report: Report) -> str:
    """The whole report as Markdown."""
    header, rows = _grid(report)
    lines = [f"# {report.title}", "", f"{report.spec.get('description', '')}", ""]
    lines += _markdown_table(header, rows)
    lines += [
        "",
        "`±` is half of the 95 % interval; in brackets, points of difference or the ratio to the dense network.",
    ]
    for title, sentences in (("What it says", report.verdicts), ("Problems", report.problems)):
        if sentences:
            lines += ["", f"## {title}", "", *(f"- {sentence}" for sentence in sentences)]
    lines += ["", "## Steps", ""]
    steps = [
        [step.stage, step.key[:12], str(step.epochs), f"{step.seconds:.1f}", "yes" if step.reused else "no"]
        for step in report.steps
    ]
    lines += _markdown_table(["step", "key", "epochs", "seconds", "reused"], steps)
    lines += ["", "## Where and with what", "", *_environment(report)]
    return "\n".join(lines) + "\n"


def _markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = "|" + "|".join("---" if i < 2 else "--:" for i in range(len(header))) + "|"
    return [_markdown_line(header), rule, *map(_markdown_line, rows)]


def _markdown_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _environment(report: Report) -> list[str]:
    environment = report.environment
    cpu = environment["cpu"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return [
        f"- {report.created}, {report.seconds:.0f} s, seed {report.spec['seed']}",
        f"- {cpu['model']} ({', '.join(cpu['flags'])}), {environment['threads']} threads, {environment['device']}",
        f"- Python {environment['python']}, {versions}",
    ]


def render_csv(report: Report) -> str:
    """One line per row and metric."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        for name, metric in row.metrics.items():
            values = {key: getattr(metric, key) for key in ("value", "unit", "better", "spread", "n", "missing")}
            place = {"pipeline": "+".join(row.pipeline), "seed": row.seed, "runtime": row.runtime, "file": row.file}
            writer.writerow({**place, "metric": name, **values})
    return text.getvalue()
