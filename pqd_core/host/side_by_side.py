"""A plan made by several processes: what their messages mean for the run."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pqd_core.deploy import deployment_key
from pqd_core.host import errors
from pqd_core.host.environment import usable_cores
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.jobs import Crew, Message, Task
from pqd_core.host.pieces import Made, name, step_error
from pqd_core.plan import Plan, Step

if TYPE_CHECKING:
    from pqd_core.walk import Walk


ENDS = ("done", "failed", "died")
"""What the last message about a task may be."""


def make_side_by_side(walk: Walk, log: Path) -> None:
    """Every step that can be made is in the store, and the files that it is deployed to.

    Deployments fill the time in which no step is ready. Measuring is left to the caller, who is then alone with it.
    """
    context, doing = walk.context, dict[Task, str]()
    _warn_of_crowding(walk)
    with closing(Crew(context, log, walk.jobs).carry_out(_tasks(context.plan, bool(walk.runtimes)))) as messages:
        for task, message in messages:
            step = context.plan.step(task.key)
            if message["kind"] == "begun":
                doing[task] = name(step, context.plan) if task.what == "step" else f"deploying {step.label}"
                context.progress.describe(f"{len(doing)} at once: {' | '.join(doing.values())}")
            elif message["kind"] in ENDS:
                del doing[task]
            (_of_step if task.what == "step" else _of_deployment)(walk, step, message)


def _tasks(plan: Plan, deploy: bool) -> dict[Task, list[Task]]:
    """What there is to do, and what each waits for; the steps first."""
    tasks = {Task("step", step.key): [Task("step", step.parent)] if step.parent else [] for step in plan.steps}
    return tasks | {Task("deploy", step.key): [Task("step", step.key)] for step in plan.steps if deploy}


def _warn_of_crowding(walk: Walk) -> None:
    threads, cores = walk.context.threads, usable_cores()
    if walk.jobs * threads > cores:
        walk.context.log.warning(
            f"{walk.jobs} jobs of {threads} threads share {cores} cores; --set threads={max(1, cores // walk.jobs)} "
            "may be faster"
        )


def _of_step(walk: Walk, step: Step, message: Message) -> None:
    kind = message["kind"]
    if kind == "started":
        walk.tell("pqd_step_started", step=step)
    elif kind == "done":
        artifact = walk.context.store.find("steps", step.key)
        if artifact is None:
            walk.broke(step, step_error(step, walk.context.plan, "is no longer in the store"))
        else:
            if message["reused"]:
                walk.context.progress.advance(step.epochs * walk.images)
            walk.finished(step, Made(artifact, message["reused"], message["seconds"]))
    elif kind in ("failed", "died"):
        walk.broke(step, _error(walk, step, message))
    else:
        _in_passing(walk, message)


def _of_deployment(walk: Walk, step: Step, message: Message) -> None:
    kind = message["kind"]
    if kind == "done":
        walk.refused[step.key] = dict(message["refused"])
    elif kind in ("failed", "died"):
        why = "; ".join(map(str, _error(walk, step, message).problems))
        lost = [r for r in walk.runtimes if not walk.context.store.has("deployed", deployment_key(step, r))]
        walk.refused[step.key] = {r.name: [f"{step.label} on {r.name}: cannot be deployed: {why}"] for r in lost}
    else:
        _in_passing(walk, message)


def _in_passing(walk: Walk, message: Message) -> None:
    if message["kind"] == "advance":
        walk.context.progress.advance(message["work"])
    elif message["kind"] == "warning":
        walk.warn(message["event"])  # it is in the log already


def _error(walk: Walk, step: Step, message: Message) -> PqdError:
    """What another process raised, or that it died, as if it had been raised here."""
    if message["kind"] == "failed":
        kind = getattr(errors, message["error"], PqdError)
        raised: PqdError = kind(*(Problem(*problem) for problem in message["problems"]))
        return raised
    output = message["output"]
    walk.context.log.error("a process died", step=step.label, code=message["code"], output=output)
    how = f"signal {-message['code']}" if message["code"] < 0 else f"exit code {message['code']}"
    last = f"; it said last: {json.dumps(output.splitlines()[-1][:300])}" if output else ""
    return step_error(step, walk.context.plan, f"its process died ({how}){last}")
