"""The pieces of a run: a step made or found, a step deployed. Whichever process does one, it is done like this."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen

from pqd_core.artifact import Artifact
from pqd_core.context import RunContext
from pqd_core.deploy import Deployed, deploy
from pqd_core.host.entries import Entry
from pqd_core.host.errors import DataError, PqdError, Problem, StageError
from pqd_core.host.log import bound
from pqd_core.plan import Plan, Step


@frozen
class Made:
    """A step that is in the store."""

    artifact: Artifact
    reused: bool
    seconds: float


def make_step(step: Step, context: RunContext, started: Callable[[], None]) -> Made:
    """The artifact of `step`, whose parent is in the store; `started` is called if it is not there and has to be made.

    Raises:
        PqdError: what happened, where, and from where it goes on; chained to what was raised.
    """
    began = time.perf_counter()
    with bound(step=step.label, plugin=step.stage.plugin if step.stage else "core"), context.store.locked(step.key):
        artifact = context.store.find("steps", step.key)
        reused = artifact is not None
        if artifact is None:
            started()
            artifact = _run(step, context)
        seconds = time.perf_counter() - began
        context.log.info("step finished", key=step.key, seed=step.seed, reused=reused, seconds=round(seconds, 3))
    return Made(artifact, reused, seconds)


def _run(step: Step, context: RunContext) -> Artifact:
    parent = None
    try:
        parent = _parent(step, context)
        artifact: Artifact = context.host.manager.hook.pqd_run_step(step=step, artifact=parent, context=context)
        if not isinstance(artifact, Artifact) or artifact.key != step.key:
            raise TypeError(f"a plugin's pqd_run_step gave {artifact!r}, not the artifact of this step")
    except (Exception, SystemExit) as error:
        context.log.exception("step failed")
        raise _step_error(step, context.plan, parent, error) from error
    return artifact


def _parent(step: Step, context: RunContext) -> Artifact | None:
    if step.parent is None:
        return None
    found = context.store.find("steps", step.parent)
    if found is None:
        raise DataError(Problem(context.plan.name(step), "the step before it is no longer in the store", "run again"))
    return found


def where(step: Step, plan: Plan) -> str:
    """`step 3 of 16, nudge`, and the seed where there are several."""
    seed = f", seed {step.seed}" if len(plan.spec.seeds) > 1 else ""
    return f"step {plan.steps.index(step) + 1} of {len(plan.steps)}, {step.name}{seed}"


def step_error(step: Step, plan: Plan, what: str) -> StageError:
    """A step that failed without an exception of its own, with where it goes on."""
    parent = plan.step(step.parent).label if step.parent else None
    return StageError(Problem(where(step, plan), what, _resume(parent)))


def _step_error(step: Step, plan: Plan, parent: Artifact | None, error: BaseException) -> PqdError:
    """What happened, where, and from where it goes on; a person's mistake keeps its own exit code."""
    resume = _resume(plan.step(parent.key).label if parent else None)
    if isinstance(error, PqdError):
        told: PqdError = type(error)(*error.problems, Problem(where(step, plan), "stopped here", resume))
        return told
    stage = step.stage
    who = f"plugin {stage.plugin}, version {stage.record.version}, settings {stage.flat()}" if stage else "the core"
    what = f"{type(error).__name__}: {error} ({who})"
    return StageError(Problem(where(step, plan), what, f"{resume}; the whole error is in log.jsonl"))


def _resume(parent: str | None) -> str:
    if parent is None:
        return "nothing was finished before it"
    return f"running again goes on after {'the baseline' if parent == 'baseline' else parent}"


@frozen
class Deployments:
    """What became of one step in each runtime: a file, or the reasons why there is none."""

    files: list[Deployed]
    refused: dict[str, list[str]]


def deploy_step(step: Step, runtimes: Sequence[Entry], context: RunContext) -> Deployments:
    """The files of a step that is in the store; a runtime that cannot take it is told and hinders no other."""
    files, refused = [], dict[str, list[str]]()
    with tempfile.TemporaryDirectory(prefix="pqd-") as shared, bound(step=step.label):
        for runtime in runtimes:
            try:
                files.append(deploy(step, runtime, context, lambda: context.frozen_model(step), Path(shared)))
            except PqdError as error:
                context.log.exception("deployment failed", runtime=runtime.name)
                refused[runtime.name] = [str(problem) for problem in error.problems]
    return Deployments(files, refused)
