"""The run: from a plan to its report, in a store and a run folder that nobody else writes to meanwhile."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pqd_core.artifact import Store
from pqd_core.context import RunContext
from pqd_core.host import paths
from pqd_core.host.environment import usable_cores
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.jobs import check_plugins, jobs_that_fit
from pqd_core.host.log import logging_to
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.progress import Progress, Quiet
from pqd_core.host.quiet import quiet_neighbours
from pqd_core.host.renderers import publish
from pqd_core.plan import build_plan
from pqd_core.report import Report
from pqd_core.spec import Spec
from pqd_core.walk import Walk

if TYPE_CHECKING:
    from pqd_core.host.log import Sink


def run(
    spec: Spec,
    out: Path | str | None = None,
    *,
    store: Path | str | None = None,
    remeasure: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
    host: Host | None = None,
    terminal: Sink | None = None,
) -> Report:
    """Every step of `spec` is run (or found in the store), deployed and measured; the report of it.

    Writes `report.json`, `results.csv`, the forms of the report that plugins bring, `log.jsonl` and the deployed files
    into `out` (`pqd-runs/<title>` if None). Running again goes on after the last finished step. `jobs` steps and
    deployments are made side by side, each in a process, as far as there are cores for their threads; what they give
    does not depend on how many. A step that
    fails stops those that build on it; the others go on, and the report lists it.

    Raises:
        PqdError: with the exit code that the command line would end with; no pipeline was finished.
    """
    _alone()
    host = host or default_host()
    plan = build_plan(spec, host)
    folder = paths.make_folder(Path(out) if out else paths.default_run_folder(spec.title), "run folder")
    shelf = Store(paths.make_folder(Path(store) if store else paths.default_store(), "store"))
    context = RunContext(plan, shelf, host, progress or Quiet(), remeasure)
    if jobs > 1:
        check_plugins(context)
    log = logging_to(folder / "log.jsonl", terminal)
    with log, paths.locked_run(folder), _threads(context.threads), quiet_neighbours():
        jobs, told = jobs_that_fit(jobs, context.threads, usable_cores()) if jobs > 1 else (jobs, "")
        if told:
            context.log.warning(told)
        report = Walk(context, folder, jobs, terminal).report()
        publish(report, folder, host)
        if failed := host.tell("pqd_run_finished", report=report):
            report.problems += failed
            publish(report, folder, host)
    return report


def _alone() -> None:
    """This is the only process of the run: under a launcher of several, each would wait for the others' locks."""
    if os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1"):
        what = "a run is one process; it cannot be started by a launcher of several yet"
        raise PqdError(Problem("WORLD_SIZE", what, "start pqd by itself"))


def _threads(threads: int) -> ExitStack:
    """torch uses `threads` threads until the stack closes."""
    import torch

    stack, before = ExitStack(), torch.get_num_threads()
    torch.set_num_threads(threads)
    stack.callback(torch.set_num_threads, before)
    return stack
