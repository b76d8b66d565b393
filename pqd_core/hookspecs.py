"""The hooks: everything that pqd asks of a plugin, on one page.

A plural noun brings, an imperative does, a past participle tells. Hooks that bring or tell are called
implementation by implementation, so that each answer has an owner and one failure hides no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pqd_core.artifact import Artifact
    from pqd_core.context import RunContext
    from pqd_core.host.errors import Problem
    from pqd_core.plan import Plan, Step
    from pqd_core.records import (
        BackboneDef,
        CheckupDef,
        CommandDef,
        DatasetDef,
        MeasurerDef,
        RecipeDef,
        RendererDef,
        RuntimeDef,
        StageDef,
        TaskDef,
    )
    from pqd_core.report import Report

PROJECT = "pqd"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def pqd_backbones() -> Iterable[BackboneDef]:
    """Bring network architectures."""
    raise NotImplementedError


@hookspec
def pqd_datasets() -> Iterable[DatasetDef]:
    """Bring datasets."""
    raise NotImplementedError


@hookspec
def pqd_stages() -> Iterable[StageDef]:
    """Bring stages."""
    raise NotImplementedError


@hookspec
def pqd_runtimes() -> Iterable[RuntimeDef]:
    """Bring runtimes to deploy to."""
    raise NotImplementedError


@hookspec
def pqd_measurers() -> Iterable[MeasurerDef]:
    """Bring measurers of deployed files."""
    raise NotImplementedError


@hookspec
def pqd_tasks() -> Iterable[TaskDef]:
    """Bring tasks beyond classification: losses, and when an output is right."""
    raise NotImplementedError


@hookspec
def pqd_renderers() -> Iterable[RendererDef]:
    """Bring forms of the report: a page, a document, a picture."""
    raise NotImplementedError


@hookspec
def pqd_recipes() -> Iterable[RecipeDef]:
    """Bring specs that a person can run by name."""
    raise NotImplementedError


@hookspec
def pqd_commands() -> Iterable[CommandDef]:
    """Bring commands of the command line."""
    raise NotImplementedError


@hookspec
def pqd_checkups() -> Iterable[CheckupDef]:
    """Bring checkups of the machine and of what is installed, for `pqd doctor`."""
    raise NotImplementedError


@hookspec
def pqd_check_plan(plan: Plan) -> Iterable[Problem]:
    """Object to a plan before any time is spent, as data: where, what, and what to do next."""
    raise NotImplementedError


@hookspec(firstresult=True)
def pqd_run_step(step: Step, artifact: Artifact | None, context: RunContext) -> Artifact:
    """Run `step` on its parent's artifact (None for the baseline) and return what it left in the store.

    The core answers last: answer sooner to run a step elsewhere, wrap the hook to watch it. With several jobs it is
    asked in the process that makes the step.
    """
    raise NotImplementedError


@hookspec
def pqd_step_started(step: Step) -> None:
    """A step begins."""


@hookspec
def pqd_step_finished(step: Step, artifact: Artifact, reused: bool) -> None:
    """A step's artifact is in the store; `reused` when it was there already."""


@hookspec
def pqd_step_failed(step: Step, error: BaseException) -> None:
    """A step raised."""


@hookspec
def pqd_run_finished(report: Report) -> None:
    """All steps are done, deployed and measured."""
