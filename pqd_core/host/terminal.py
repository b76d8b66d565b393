"""A run as a person at a terminal sees it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from structlog.typing import EventDict

from pqd_core.host.plugins import default_host
from pqd_core.host.progress import Bar
from pqd_core.host.quiet import quiet_neighbours
from pqd_core.host.read_spec import read_specs
from pqd_core.host.render import render_table
from pqd_core.host.words import lying_in
from pqd_core.report import Report
from pqd_core.run import run
from pqd_core.spec import Spec


def run_on_terminal(
    spec: str, overrides: Sequence[str], out: Path | None, store: Path | None, remeasure: bool, jobs: int
) -> int:
    """Run a spec, or each part of a recipe, with a progress bar; 1 if anything is missing from a report, else 0."""
    specs = read_specs(spec, overrides)
    several = len(specs) > 1
    with quiet_neighbours():
        reports = [_run(one, out / one.title if out and several else out, store, remeasure, jobs) for one in specs]
    return 0 if all(report.complete for report in reports) else 1


def _run(asked: Spec, out: Path | None, store: Path | None, remeasure: bool, jobs: int) -> Report:
    console = Console(stderr=True)
    console.print(f"[bold]{escape(asked.title)}[/bold]  {escape(_headline(asked))}")
    with Bar(console).shown() as bar:
        warn = _Warnings(console)
        report = run(asked, out, store=store, remeasure=remeasure, jobs=jobs, progress=bar, terminal=warn)
    show_report(report, report.folder)
    return report


def _headline(asked: Spec) -> str:
    written = [stage.name for stage in asked.stages]
    stages = " and ".join(" -> ".join(names) for names in asked.pipelines or (written,)) or "baseline only"
    study = "" if asked.study == "as-written" else f", study {asked.study}"
    return stages + study + (f", {len(asked.seeds)} seeds" if len(asked.seeds) > 1 else "")


def show_report(report: Report, folder: Path) -> None:
    """The table, what it says, and where everything lies."""
    console = Console(highlight=False)
    colour = console.is_terminal and "NO_COLOR" not in os.environ
    width = console.width if console.is_terminal else None
    print(render_table(report, width, colour))  # noqa: T201 - rendered already
    for note in report.notes:
        console.print(f"* {note}", markup=False, soft_wrap=not console.is_terminal)
    for sentence in report.verdicts:
        console.print(f"- {sentence}", markup=False, soft_wrap=not console.is_terminal)
    for problem in report.problems:
        console.print(f"! {problem}", markup=False, style="red", soft_wrap=not console.is_terminal)
    reused = sum(step.reused for step in report.steps)
    if reused == len(report.steps):
        console.print("nothing was computed again: every step was in the store", style="dim")
    elif reused:
        console.print(f"{reused} of {len(report.steps)} steps were in the store", style="dim")
    console.print(lying_in(folder, _found_in(folder)), style="dim", markup=False, soft_wrap=True)


def _found_in(folder: Path) -> list[str]:
    """What a person finds in a run folder, the report's forms first."""
    forms = [owned.record.file for owned in default_host().registry("renderer")]
    names = [*forms, "report.json", "results.csv", "log.jsonl", "deployed/"]
    return [name for name in names if (folder / name).exists()] or ["nothing"]


class _Warnings:
    """Puts warnings of the log on the terminal; everything else is in the run folder."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: EventDict) -> None:
        if event["level"] == "warning":
            text = f"[yellow]warning[/yellow] {escape(event['event'])}"
            self.console.print(text, highlight=False, soft_wrap=not self.console.is_terminal)
