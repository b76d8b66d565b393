"""`pqd report`: a finished run shown again, opened, written anew, or beside another one."""

from __future__ import annotations

import hashlib
import webbrowser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from pqd_core.host import paths
from pqd_core.host.compare import compare_runs, comparison_text
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.plugins import default_host
from pqd_core.host.renderers import render_comparison, render_files
from pqd_core.host.terminal import show_report
from pqd_core.host.words import lying_in
from pqd_core.report import read_report


def show(run: Path, opened: bool, rendered: bool, as_json: bool) -> None:
    """The report of one run on the terminal, after its forms were written if that was asked or one is to be opened."""
    report = read_report(run)
    page = report.folder / _page_name("report", lambda record: record.load) if opened else None
    if rendered or (page and not page.is_file()):
        _tell(render_files(report, report.folder, default_host().registry("renderer")))
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        show_report(report, report.folder)
    if page:
        _open(page)


def show_both(a: Path, b: Path, opened: bool, rendered: bool, as_json: bool) -> None:
    """Two runs side by side, on the terminal and, if that was asked, as the forms that plugins bring."""
    one, other = read_report(a), read_report(b)
    found, folder = compare_runs(one, other), other.folder / _folder_of_both(one.folder.resolve())
    page = folder / _page_name("comparison", lambda record: record.compare) if opened else None
    if opened or rendered:
        paths.make_folder(folder, "run folder")
        if page:
            page.unlink(missing_ok=True)  # an older one must not pass for the one that could not be written
        _tell(render_comparison(found, folder, default_host().registry("renderer")))
    typer.echo(found.model_dump_json(indent=1) if as_json else "\n".join(comparison_text(found)))
    if page:
        _open(page)
    elif rendered:
        typer.echo(lying_in(folder, sorted(file.name for file in folder.iterdir()) or ["nothing"]), err=as_json)


def _folder_of_both(one: Path) -> str:
    """A name for this first run alone: runs in other folders may be called like it."""
    return f"compared-with-{one.name}-{hashlib.sha256(str(one).encode()).hexdigest()[:6]}"


def _page_name(of: str, can: Callable[[Any], Any]) -> str:
    """The name of the page that a browser can open."""
    for owned in default_host().registry("renderer"):
        if owned.record.file.endswith(".html") and can(owned.record):
            return str(owned.record.file)
    raise PqdError(Problem("--open", f"no installed plugin makes a page of a {of}", "see pqd plugins"))


def _tell(problems: Iterable[str]) -> None:
    for problem in problems:
        typer.echo(f"pqd: {problem}", err=True)


def _open(page: Path) -> None:
    if not page.is_file():
        raise PqdError(Problem(str(page), "was not written", "the cause is told above"))
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("pqd: no browser was found; open it by hand", err=True)
    typer.echo(str(page.resolve()))
