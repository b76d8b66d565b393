"""`report.md`, with its plots as SVG in `plots/`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import vl_convert

from pqd_core import Report
from pqd_report.figures import Figure, figures, stages_of
from pqd_report.names import letters
from pqd_report.plots.curves import quantities
from pqd_report.plots.theme import LIGHT, THEMES
from pqd_report.reproduce import environment
from pqd_report.tables import Table, effect_table, order_tests

WIDTH = 560
"""Of a picture, in pixels; on the page a plot is as wide as its place."""


def render(report: Report) -> dict[str, str]:
    """The text and its pictures."""
    short = letters(stages_of(report))
    drawn = list(figures(report, short, next(iter(quantities(report)), None)))
    pictures = {f"plots/{figure.name}.svg": svg(figure) for figure in drawn}
    return {"report.md": "\n".join(_lines(report, drawn)) + "\n", **pictures}


def svg(figure: Figure) -> str:
    """The plot as a picture on white paper."""
    config = {**THEMES["light"], "background": LIGHT["paper"], "padding": 12}
    drawn: str = vl_convert.vegalite_to_svg({**figure.spec, "width": WIDTH, "config": config})
    return drawn


def _lines(report: Report, drawn: Sequence[Figure]) -> Iterator[str]:
    yield from (f"# {escaped(report.title)}", "")
    if description := report.spec.get("description"):
        yield from (escaped(str(description)), "")
    yield from markdown_table(*report.grid(), left=2)
    yield from ("", report.legend)
    for title, sentences in (("Notes", report.notes), ("What it says", report.verdicts), ("Problems", report.problems)):
        if sentences:
            yield from ("", f"## {title}", "", *(f"- {escaped(sentence)}" for sentence in sentences))
    for title, section in (("Accuracy, latency and size", "frontier"), ("What each stage changes", "effects")):
        yield from _pictures(title, [figure for figure in drawn if figure.section == section])
        yield from _table(effect_table(report)) if section == "effects" else ()
    yield from _pictures("Training", [figure for figure in drawn if figure.section == "curves"])
    yield from _pictures("Layer by layer", [figure for figure in drawn if figure.section == "layers"])
    yield from _table(order_tests(report))
    yield from ("", "## Steps", "")
    steps = [
        [step.stage, step.key[:12], str(step.epochs), f"{step.seconds:.1f}", "yes" if step.reused else "no"]
        for step in report.steps
    ]
    yield from markdown_table(["step", "key", "epochs", "seconds", "reused"], steps, left=2)
    yield from ("", "## Where and with what", "")
    yield from (f"- {name}: {escaped(value)}" for name, value in environment(report))


def _pictures(title: str, drawn: Iterable[Figure]) -> Iterator[str]:
    found = list(drawn)
    if found:
        yield from ("", f"## {title}", "")
        yield from (f"![{escaped(f.title)}]({f'plots/{f.name}.svg'})" for f in found)


def _table(table: Table) -> Iterator[str]:
    if table.rows:
        rows = [[" ".join(filter(None, (cell.text, cell.note))) for cell in row] for row in table.rows]
        yield from ("", f"### {table.caption}", "")
        yield from markdown_table(table.header, rows, left=min(table.numbers, default=len(table.header)))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> Iterator[str]:
    """A table whose first `left` columns are set to the left."""
    yield _line(map(escaped, header))
    yield "|" + "|".join("---" if i < left else "--:" for i in range(len(header))) + "|"
    yield from (_line(map(escaped, row)) for row in rows)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no tag, link, picture, code or cell begins or ends in it; `->` stays."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"(?<!-)>", "&gt;", re.sub(r"([\\`|\[\]])", r"\\\1", text))
