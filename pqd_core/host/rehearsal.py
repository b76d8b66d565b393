"""A network that a stage cannot take is refused before time goes into training it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import evolve

from pqd_core.context import RunContext
from pqd_core.facts import BASELINE_FACTS, PLAIN_MODULES
from pqd_core.host.entries import Entry
from pqd_core.host.errors import PlanError, PqdError, Problem
from pqd_core.plan import Step

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.stage import Stage


class NotTrained(Exception):
    """A stage asks for the trained baseline, which there is none of yet."""


def rehearse(context: RunContext) -> None:
    """Each stage that has to know the network's modules has been shown an untrained copy.

    Not every network can be traced, or narrowed, and what cannot be untrained cannot be trained. The copy is as the
    stages before leave it, and is thrown away; a stage that runs on what is in the store already is not tried, as there
    is nothing to lose.

    Raises:
        PlanError: a stage refuses the network, or raises.
    """
    tried = set[tuple[str, str]]()
    for step, stage in _particular(context):
        network = _network_before(step, context)
        if network is None or (asked := (repr(stage.flat()), str(network))) in tried:
            continue
        tried.add(asked)
        context.progress.describe(f"trying {step.name} on the untrained network")
        _try(step, stage, network, context)


def _particular(context: RunContext) -> Iterator[tuple[Step, Entry]]:
    """The steps whose stage needs or ends `plain-modules`, nothing else, and whose beginning is yet to be trained."""
    for step in context.plan.steps:
        stage = step.stage
        if stage is None or PLAIN_MODULES not in (*stage.record.needs, *stage.record.ends):
            continue
        if not BASELINE_FACTS.issuperset(stage.record.needs):
            continue
        if not (step.parent and context.store.find("steps", step.parent)):
            yield step, stage


def _network_before(step: Step, context: RunContext) -> nn.Module | None:
    """The untrained network as the stages before leave it; None where one of them needs what only training gives."""
    from pqd_core.model import build_network

    network = build_network(context.spec.backbone, context.info, step.seed).eval()
    try:
        for passed in context.plan.path_to(step)[:-1]:
            if stage := passed.stage:
                network = _restructured(passed, stage, network, context)
    except (Exception, SystemExit):
        context.log.exception("a stage could not be tried untrained", stage=step.name)
        return None
    return network


def _try(step: Step, stage: Entry, network: nn.Module, context: RunContext) -> None:
    try:
        _restructured(step, stage, network, context)
    except NotTrained:
        return
    except (Exception, SystemExit) as error:
        context.log.exception("a stage refused the untrained network", stage=step.name)
        raise PlanError(*_told(step, error), _advice(step)) from error


def _restructured(step: Step, stage: Entry, network: nn.Module, context: RunContext) -> nn.Module:
    def baseline() -> nn.Module:
        raise NotTrained

    untrained = evolve(context.stage_context(step, {}), baseline=baseline)
    implementation: Stage = stage.record.implementation()
    return implementation.restructure(network, stage.settings, untrained)


def _told(step: Step, error: BaseException) -> tuple[Problem, ...]:
    if isinstance(error, PqdError):
        return error.problems
    return (Problem(step.name, f"raised {type(error).__name__}: {error}", "the whole error is in log.jsonl"),)


def _advice(step: Step) -> Problem:
    what = "tried on the untrained network, so nothing has been trained"
    return Problem(step.name, what, f"change what is named above, or leave {step.name} out of the stages")
