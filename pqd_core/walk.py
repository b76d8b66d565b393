"""One walk over a plan's trees: every step made or found, deployed and measured, whatever fails on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from pqd_core.context import RunContext
from pqd_core.deploy import Deployed
from pqd_core.host import paths
from pqd_core.host.entries import Entry, entries_or_all
from pqd_core.host.errors import PqdError, StoreError
from pqd_core.host.pieces import Made, deploy_step, make_step, where
from pqd_core.host.progress import DEPLOY_WORK, MEASURE_WORK
from pqd_core.host.rehearsal import rehearse
from pqd_core.host.rows import StepRecord
from pqd_core.host.side_by_side import make_side_by_side
from pqd_core.host.words import counted
from pqd_core.measure import Measurement, measure_all
from pqd_core.plan import BASELINE, Step
from pqd_core.report import Report, make_report

if TYPE_CHECKING:
    from pqd_core.host.log import Sink


@define
class Walk:
    """One walk over the plan, and what it found so far."""

    context: RunContext
    folder: Path
    jobs: int = 1
    terminal: Sink | None = None
    runtimes: list[Entry] = field(factory=list)
    began: float = field(factory=time.perf_counter)
    made: dict[str, Made] = field(factory=dict)
    """By key: the steps that are in the store."""
    errors: list[PqdError] = field(factory=list)
    """Steps that failed."""
    refused: dict[str, dict[str, list[str]]] = field(factory=dict)
    """By key and runtime: why there is no file; only what another process found out."""
    failed: list[str] = field(factory=list)
    observers_failed: list[str] = field(factory=list)
    images: int = 0
    """Training images of an epoch."""

    def report(self) -> Report:
        """Everything is made, deployed and measured, as far as that goes."""
        context, spec = self.context, self.context.spec
        self.runtimes = entries_or_all(spec.runtimes, context.host, "runtime")
        measurers = entries_or_all(spec.measure, context.host, "measurer")
        context.log.info("run started", spec=spec.model_dump(mode="json"), environment=context.environment)
        context.progress.describe("opening the data")
        context.progress.start(self._work(len(measurers)))
        rehearse(context)
        self._make()
        deployed = [found for step in self._finished() for found in self._deploy(step)]
        numbers = self._measure(measurers, deployed)
        records = [self._record(step) for step in self._finished()]
        seconds = time.perf_counter() - self.began
        return make_report(context, records, deployed, numbers, self.failed, self.observers_failed, seconds)

    def _work(self, measurers: int) -> int:
        steps = self.context.plan.steps
        self.images = len(self.context.data().train)
        files = len(steps) * len(self.runtimes)
        return sum(step.epochs * self.images for step in steps) + files * (DEPLOY_WORK + measurers * MEASURE_WORK)

    def _make(self) -> None:
        """All steps are made that can be; with several jobs they are deployed, too.

        Raises:
            PqdError: no pipeline that was asked for came to its end; the first error.
        """
        if self.jobs > 1:
            make_side_by_side(self, self.folder / "log.jsonl")
        else:
            for step in self.context.plan.steps:
                if step.parent is None or step.parent in self.made:
                    self.attempt(step)
        if self.errors and not self.made.keys() & set(self.context.plan.pipelines):
            raise self.errors[0]
        self.failed += [str(problem) for error in self.errors for problem in error.problems]
        if left := len(self.context.plan.steps) - len(self.made) - len(self.errors):
            self.failed.append(f"{counted(left, 'step')} that build on what failed were left out")

    def attempt(self, step: Step) -> None:
        """A step is made or found by this process, or has failed."""
        self.context.progress.describe(where(step, self.context.plan))
        try:
            made = make_step(step, self.context, lambda: self.tell("pqd_step_started", step=step))
        except PqdError as error:
            self.broke(step, error)
        else:
            if made.reused:
                self.context.progress.advance(step.epochs * self.images)
            self.finished(step, made)

    def finished(self, step: Step, made: Made) -> None:
        """A step is in the store."""
        self.tell("pqd_step_finished", step=step, artifact=made.artifact, reused=made.reused)
        self.made[step.key] = made
        how = "reused" if made.reused else f"{made.seconds:.1f} s"
        called = self.context.plan.name(step)
        self.context.progress.tell(f"  {called}  [dim]{counted(step.epochs, 'epoch')}, {how}[/dim]")

    def broke(self, step: Step, error: PqdError) -> None:
        """A step failed; what does not build on it goes on.

        Raises:
            StoreError: nothing more can be stored.
        """
        self.tell("pqd_step_failed", step=step, error=error.__cause__ or error)
        if isinstance(error, StoreError):
            raise error
        self.errors.append(error)
        self.context.progress.tell(f"  {self.context.plan.name(step)}  [red]failed[/red]")

    def warn(self, event: dict[str, Any]) -> None:
        """A warning of another process is shown."""
        if self.terminal:
            self.terminal(event)

    def tell(self, hook: str, **arguments: Any) -> None:
        """Observers are called; those that fail are remembered."""
        self.observers_failed += self.context.host.tell(hook, **arguments)

    def _finished(self) -> list[Step]:
        return [step for step in self.context.plan.steps if step.key in self.made]

    def _record(self, step: Step) -> StepRecord:
        made = self.made[step.key]
        about = made.artifact.about
        return StepRecord(
            key=step.key,
            parent=step.parent,
            stage=step.name,
            epochs=step.epochs,
            seconds=about["seconds"],
            reused=made.reused,
            history=about["history"],
        )

    def _deploy(self, step: Step) -> list[Deployed]:
        """The files of a step; what other processes deployed is found, and what they could not is not tried again."""
        if self.jobs == 1:
            self.context.progress.describe(f"deploying {self.context.plan.name(step)}")
            self.context.progress.advance(DEPLOY_WORK * len(self.runtimes))
        refused = self.refused.get(step.key, {})
        found = deploy_step(step, [entry for entry in self.runtimes if entry.name not in refused], self.context)
        self.failed += [reason for reasons in (*refused.values(), *found.refused.values()) for reason in reasons]
        return [self._placed(made) for made in found.files]

    def _placed(self, made: Deployed) -> Deployed:
        """The same files under the run folder, where a person finds them."""
        seed = f"seed-{made.seed}" if len(self.context.spec.seeds) > 1 else ""
        place = Path("deployed") / seed / ("+".join(made.pipeline) or BASELINE) / made.runtime
        paths.place(made.folder, self.folder / place)
        return evolve(made, place=place / made.file.relative_to(made.folder))

    def _measure(self, measurers: Sequence[Entry], deployed: Sequence[Deployed]) -> list[list[Measurement]]:
        numbers: list[list[Measurement]] = [[] for _ in deployed]
        context = self.context
        for measurer in measurers if deployed else ():
            context.progress.describe(f"measuring {measurer.name}")
            rows = measure_all(
                measurer, deployed, context, lambda found: context.frozen_model(context.plan.step(found.step_key))
            )
            for have, new in zip(numbers, rows, strict=True):
                have += new
            context.progress.advance(MEASURE_WORK * len(deployed))
        return numbers
