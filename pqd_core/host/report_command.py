"""`pqd report`: a finished run shown again, opened, written anew, or beside another one."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import typer

from pqd_core.host.compare import compare_runs, comparison_text
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.plugins import default_host
from pqd_core.host.renderers import render_files
from pqd_core.host.terminal import show_report
from pqd_core.report import Report, read_report


def show(run: Path, opened: bool, rendered: bool, as_json: bool) -> None:
    """The report of one run on the terminal, after its forms were written if that was asked or one is to be opened."""
    report = read_report(run)
    page = _page(report) if opened else None
    if rendered or (page and not page.is_file()):
        for problem in render_files(report, report.folder, default_host().registry("renderer")):
            typer.echo(f"pqd: {problem}", err=True)
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        show_report(report, report.folder)
    if page:
        _open(page)


def show_both(a: Path, b: Path, as_json: bool) -> None:
    """Two runs side by side."""
    found = compare_runs(read_report(a), read_report(b))
    typer.echo(found.model_dump_json(indent=1) if as_json else "\n".join(comparison_text(found)))


def _page(report: Report) -> Path:
    """Where the page that a browser can open lies, or will lie."""
    names = [owned.record.file for owned in default_host().registry("renderer")]
    for name in names:
        if name.endswith(".html"):
            return report.folder / str(name)
    raise PqdError(Problem("--open", "no installed plugin makes a page of a report", "see pqd plugins"))


def _open(page: Path) -> None:
    if not page.is_file():
        raise PqdError(Problem(str(page), "was not written", "the cause is told above"))
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("pqd: no browser was found; open it by hand", err=True)
    typer.echo(str(page.resolve()))
