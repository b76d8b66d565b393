"""A plan made by several processes: what their messages mean for the run."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pqd_core.deploy import is_deployed, where_deployed
from pqd_core.host import errors
from pqd_core.host.entries import Entry
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.jobs import Crew, Message, Piece
from pqd_core.host.pieces import Made, step_error
from pqd_core.plan import Step

if TYPE_CHECKING:
    from pqd_core.walk import Walk


ENDS = ("done", "failed", "died")
"""What the last message about a piece may be."""


def make_side_by_side(walk: Walk, log: Path) -> None:
    """Every step that can be made is in the store, and the files that it is deployed to.

    Deployments fill the time in which no step is ready. Measuring is left to the caller, who is then alone with it.
    """
    context, doing = walk.context, dict[Piece, str]()
    _find(walk)
    with closing(Crew(context, log, walk.jobs).carry_out(_pieces(walk))) as messages:
        for piece, message in messages:
            step = context.plan.step(piece.key)
            if message["kind"] == "begun":
                doing[piece] = ("deploying " if piece.what == "deploy" else "") + context.plan.name(step)
                context.progress.describe(f"{len(doing)} at once: {' | '.join(doing.values())}")
            elif message["kind"] in ENDS:
                del doing[piece]
            (_of_step if piece.what == "step" else _of_deployment)(walk, step, message)


def _find(walk: Walk) -> None:
    """What the store holds already needs no other process."""
    for step in walk.context.plan.steps:
        if walk.context.store.has("steps", step.key) and (step.parent is None or step.parent in walk.made):
            walk.attempt(step)


def _pieces(walk: Walk) -> dict[Piece, list[Piece]]:
    """What is left to do, and what each waits for; the steps first."""
    steps = walk.context.plan.steps
    make = [step for step in steps if step.key not in walk.made]
    deploy = [step for step in steps if _undeployed(walk, step)]
    waits = {Piece("step", step.key): step.parent for step in make}
    waits |= {Piece("deploy", step.key): step.key for step in deploy}
    before = {piece: Piece("step", key) for piece, key in waits.items() if key}
    return {piece: [before[piece]] if before.get(piece) in waits else [] for piece in waits}


def _undeployed(walk: Walk, step: Step) -> list[Entry]:
    """The runtimes for which the store holds no file of `step`."""
    store, threads = walk.context.store, walk.context.threads
    return [runtime for runtime in walk.runtimes if not is_deployed(step, runtime, threads, store)]


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
        walk.refused[step.key] = {
            runtime.name: [f"{where_deployed(step, runtime, walk.context.plan)}: cannot be deployed: {why}"]
            for runtime in _undeployed(walk, step)
        }
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
