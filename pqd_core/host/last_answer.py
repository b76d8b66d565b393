"""The core's own answer to `pqd_run_step`, given when no plugin answers sooner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqd_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from pqd_core.artifact import Artifact
    from pqd_core.context import RunContext
    from pqd_core.plan import Step


@hookimpl(trylast=True)
def pqd_run_step(step: Step, artifact: Artifact | None, context: RunContext) -> Artifact:
    """Run the step in this process."""
    from pqd_core.stage import execute_step

    return execute_step(step, artifact, context)
