"""The run: walks the plan's tree step by step, deploys and measures what each step left, and reports."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from pqd_core.artifact import Artifact, Store
from pqd_core.context import RunContext
from pqd_core.deploy import Deployed, deploy
from pqd_core.host import paths
from pqd_core.host.entries import Entry, entries_or_all
from pqd_core.host.errors import PqdError, Problem, StageError
from pqd_core.host.log import bound, logging_to
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.progress import DEPLOY_WORK, MEASURE_WORK, Progress, Quiet
from pqd_core.host.rows import StepRecord
from pqd_core.host.words import counted
from pqd_core.measure import Measurement, measure_all
from pqd_core.plan import BASELINE, Step, build_plan
from pqd_core.report import Report, make_report
from pqd_core.spec import Spec

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.host.log import Sink


def run(
    spec: Spec,
    out: Path | str | None = None,
    *,
    store: Path | str | None = None,
    remeasure: bool = False,
    progress: Progress | None = None,
    host: Host | None = None,
    terminal: Sink | None = None,
) -> Report:
    """Every step of `spec` is run (or found in the store), deployed and measured; the report of it.

    Writes `report.json`, `report.md`, `results.csv`, `log.jsonl` and the deployed files into `out`
    (`pqd-runs/<title>` if None). Running again goes on after the last finished step.

    Raises:
        PqdError: with the exit code that the command line would end with.
    """
    _alone()
    host = host or default_host()
    plan = build_plan(spec, host)
    folder = paths.make_folder(Path(out) if out else paths.default_run_folder(spec.title), "run folder")
    shelf = Store(paths.make_folder(Path(store) if store else paths.default_store(), "store"))
    context = RunContext(plan, shelf, host, progress or Quiet(), remeasure)
    with logging_to(folder / "log.jsonl", terminal), paths.locked_run(folder), _threads(context.threads):
        report = _Walk(context, folder).report()
        report.write(folder)
        if failed := host.tell("pqd_run_finished", report=report):
            report.problems += failed
            report.write(folder)
    return report


def _alone() -> None:
    """This is the only process of the run: under a launcher of several, each would wait for the others' locks."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        what = "a run is one process; it cannot be started by a launcher of several yet"
        raise PqdError(Problem("WORLD_SIZE", what, "start pqd by itself"))


def _threads(threads: int) -> ExitStack:
    """torch uses `threads` threads until the stack closes."""
    import torch

    stack, before = ExitStack(), torch.get_num_threads()
    torch.set_num_threads(threads)
    stack.callback(torch.set_num_threads, before)
    return stack


@define
class _Walk:
    """One walk over the plan, and what it found so far."""

    context: RunContext
    folder: Path
    began: float = field(factory=time.perf_counter)
    artifacts: dict[str, Artifact] = field(factory=dict)
    records: list[StepRecord] = field(factory=list)
    failed: list[str] = field(factory=list)
    observers_failed: list[str] = field(factory=list)
    images: int = 0
    """Training images of an epoch."""
    _frozen: tuple[str, nn.Module] | None = None

    def report(self) -> Report:
        context = self.context
        runtimes = entries_or_all(context.spec.runtimes, context.host, "runtime")
        measurers = entries_or_all(context.spec.measure, context.host, "measurer")
        context.log.info("run started", spec=context.spec.model_dump(mode="json"), environment=context.environment)
        context.progress.describe("opening the data")
        context.progress.start(self._work(len(runtimes), len(measurers)))
        for step in context.plan.steps:
            self._run_step(step)
        deployed = [found for step in context.plan.steps for found in self._deploy(step, runtimes)]
        numbers = self._measure(measurers, deployed)
        seconds = time.perf_counter() - self.began
        return make_report(context, self.records, deployed, numbers, self.failed, self.observers_failed, seconds)

    def _work(self, runtimes: int, measurers: int) -> int:
        steps = self.context.plan.steps
        self.images = len(self.context.data().train)
        return sum(step.epochs * self.images for step in steps) + len(steps) * runtimes * (
            DEPLOY_WORK + measurers * MEASURE_WORK
        )

    def _run_step(self, step: Step) -> None:
        context = self.context
        where = f"step {len(self.records) + 1} of {len(context.plan.steps)}, {step.name}"
        context.progress.describe(where)
        began = time.perf_counter()
        with bound(step=step.label, plugin=step.stage.plugin if step.stage else "core"), context.store.locked(step.key):
            artifact = context.store.find("steps", step.key)
            reused = artifact is not None
            if artifact is None:
                self._tell("pqd_step_started", step=step)
                artifact = self._made(step, where)
            else:
                context.progress.advance(step.epochs * self.images)
            self._tell("pqd_step_finished", step=step, artifact=artifact, reused=reused)
            seconds = time.perf_counter() - began
            context.log.info("step finished", key=step.key, reused=reused, seconds=round(seconds, 3))
        self.artifacts[step.key] = artifact
        self.records.append(
            StepRecord(
                key=step.key,
                parent=step.parent,
                stage=step.name,
                epochs=step.epochs,
                seconds=artifact.about["seconds"],
                reused=reused,
                history=artifact.about["history"],
            )
        )
        how = "reused" if reused else f"{seconds:.1f} s"
        context.progress.tell(f"  {step.label}  [dim]{counted(step.epochs, 'epoch')}, {how}[/dim]")

    def _made(self, step: Step, where: str) -> Artifact:
        parent = self.artifacts[step.parent] if step.parent else None
        try:
            artifact: Artifact = self.context.host.manager.hook.pqd_run_step(
                step=step, artifact=parent, context=self.context
            )
            if not isinstance(artifact, Artifact) or artifact.key != step.key:
                raise TypeError(f"a plugin's pqd_run_step gave {artifact!r}, not the artifact of this step")
        except (Exception, SystemExit) as error:
            self._tell("pqd_step_failed", step=step, error=error)
            self.context.log.exception("step failed")
            raise _step_error(step, where, parent, error) from error
        return artifact

    def _deploy(self, step: Step, runtimes: Sequence[Entry]) -> list[Deployed]:
        found = []
        with tempfile.TemporaryDirectory(prefix="pqd-") as shared, bound(step=step.label):
            for runtime in runtimes:
                self.context.progress.describe(f"deploying {step.label} to {runtime.name}")
                try:
                    made = deploy(step, runtime, self.context, lambda: self._frozen_model(step), Path(shared))
                    found.append(self._placed(made))
                except PqdError as error:
                    self.context.log.exception("deployment failed", runtime=runtime.name)
                    self.failed += map(str, error.problems)
                self.context.progress.advance(DEPLOY_WORK)
        return found

    def _placed(self, made: Deployed) -> Deployed:
        """The same files under the run folder, where a person finds them."""
        seed = f"seed-{made.seed}" if len(self.context.spec.seeds) > 1 else ""
        place = Path("deployed") / seed / ("+".join(made.pipeline) or BASELINE) / made.runtime
        paths.place(made.folder, self.folder / place)
        return evolve(made, place=place / made.file.relative_to(made.folder))

    def _measure(self, measurers: Sequence[Entry], deployed: Sequence[Deployed]) -> list[list[Measurement]]:
        numbers: list[list[Measurement]] = [[] for _ in deployed]
        by_key = {step.key: step for step in self.context.plan.steps}
        for measurer in measurers if deployed else ():
            self.context.progress.describe(f"measuring {measurer.name}")
            rows = measure_all(
                measurer, deployed, self.context, lambda found: self._frozen_model(by_key[found.step_key])
            )
            for have, new in zip(numbers, rows, strict=True):
                have += new
            self.context.progress.advance(MEASURE_WORK * len(deployed))
        return numbers

    def _frozen_model(self, step: Step) -> nn.Module:
        """The frozen model of a step; the last one is kept, as runtimes and measurers ask for it in a row."""
        from pqd_core.model import freeze, rebuild

        if self._frozen is None or self._frozen[0] != step.key:
            self._frozen = (step.key, freeze(rebuild(self.artifacts[step.key], step, self.context), step, self.context))
        return self._frozen[1]

    def _tell(self, hook: str, **arguments: Any) -> None:
        self.observers_failed += self.context.host.tell(hook, **arguments)


def _step_error(step: Step, where: str, parent: Artifact | None, error: BaseException) -> PqdError:
    """What happened, where, and from where it goes on; a person's mistake keeps its own exit code."""
    last = "+".join(parent.about["pipeline"]) or "the baseline" if parent else None
    resume = f"running again goes on after {last}" if last else "nothing was finished before it"
    if isinstance(error, PqdError):
        told: PqdError = type(error)(*error.problems, Problem(where, "stopped here", resume))
        return told
    stage = step.stage
    who = f"plugin {stage.plugin}, version {stage.record.version}, settings {stage.flat()}" if stage else "the core"
    what = f"{type(error).__name__}: {error} ({who})"
    return StageError(Problem(where, what, f"{resume}; the whole error is in log.jsonl"))
