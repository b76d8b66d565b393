"""A network that a stage cannot take is refused before time goes into training it."""

from __future__ import annotations

from collections.abc import Iterator

from pqd_core.context import RunContext
from pqd_core.facts import BASELINE_FACTS, PLAIN_MODULES
from pqd_core.host.errors import PlanError, PqdError, Problem
from pqd_core.plan import Step


def rehearse(context: RunContext) -> None:
    """Each stage that has to know the network's modules has been shown an untrained copy.

    Not every network can be traced, or narrowed, and what cannot be untrained cannot be trained. The copy is thrown
    away; a stage that runs on what is in the store already is not tried, as there is nothing to lose.

    Raises:
        PlanError: a stage refuses the network, or raises.
    """
    for step in _particular(context):
        context.progress.describe(f"trying {step.name} on the untrained network")
        _restructure(step, context)


def _particular(context: RunContext) -> Iterator[Step]:
    """The first step of each stage, with its settings, that needs or ends `plain-modules` and comes without others."""
    seen = set[str]()
    for step in context.plan.steps:
        stage = step.stage
        if stage is None or PLAIN_MODULES not in (*stage.record.needs, *stage.record.ends):
            continue
        if not BASELINE_FACTS.issuperset(stage.record.needs):
            continue
        asked = repr(stage.flat())
        if asked not in seen and not (step.parent and context.store.find("steps", step.parent)):
            seen.add(asked)
            yield step


def _restructure(step: Step, context: RunContext) -> None:
    from pqd_core.model import build_network

    assert step.stage is not None
    network = build_network(context.spec.backbone, context.info, step.seed).eval()
    try:
        step.stage.record.implementation().restructure(network, step.stage.settings, context.stage_context(step, {}))
    except (Exception, SystemExit) as error:
        context.log.exception("a stage refused the untrained network", stage=step.name)
        raise PlanError(*_told(step, error), _advice(step)) from error


def _told(step: Step, error: BaseException) -> tuple[Problem, ...]:
    if isinstance(error, PqdError):
        return error.problems
    return (Problem(step.name, f"raised {type(error).__name__}: {error}", "the whole error is in log.jsonl"),)


def _advice(step: Step) -> Problem:
    what = "tried on the untrained network, so nothing has been trained"
    return Problem(step.name, what, f"change what is named above, or leave {step.name} out of the stages")
