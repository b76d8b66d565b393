"""What a stage cannot do with this network is told before time goes into training it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from pqd_core.context import RunContext
from pqd_core.facts import BASELINE_FACTS, PLAIN_MODULES
from pqd_core.host.contract import check_model
from pqd_core.host.entries import Entry
from pqd_core.host.errors import PlanError, PqdError, Problem
from pqd_core.plan import Step

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.stage import StageContext

Way = tuple[str, ...]
"""Keys of the steps behind which an untrained network is another one than before them, in order."""


class NotTrained(Exception):
    """A stage asks for the trained baseline, which there is none of yet."""


def rehearse(context: RunContext) -> None:
    """Each stage that can tell from an untrained network what it cannot do has been shown one.

    Not every network can be traced, or narrowed, and not every glob fits a layer; what cannot be untrained cannot be
    trained. A network is as the stages before leave it, and is thrown away; a stage that runs on what is in the store
    already is not tried, as there is nothing to lose.

    Raises:
        PlanError: stages refuse the network, or raise; the problems of all of them at once.
    """
    rehearsal = _Rehearsal(context)
    for step in context.plan.steps:
        rehearsal.follow(step)
    if refusals := rehearsal.refusals:
        problems = dict.fromkeys(told for step, error in refusals for told in _told(step, error))
        raise PlanError(*problems, _advice(step.name for step, _ in refusals)) from refusals[0][1]


@define
class _Rehearsal:
    """The walk over the plan's trees, in which each stage is tried once on each structure that it meets."""

    context: RunContext
    refusals: list[tuple[Step, BaseException]] = field(factory=list)
    _ways: dict[str, Way | None] = field(factory=dict)
    """By key: how a step is reached; None where that takes what only training gives."""
    _tried: dict[object, Way | None] = field(factory=dict)
    _networks: dict[Way, nn.Module] = field(factory=dict)
    """What is at the end of a way, until a stage makes another network of it."""

    def follow(self, step: Step) -> None:
        """`step` has been tried, unless its like has been or there is nothing to lose; its parent was before."""
        before = self._ways[step.parent] if step.parent else ()
        if before is not None and step.stage and step.parent:
            before = self._after(before, step, step.stage)
        self._ways[step.key] = before

    def _after(self, way: Way, step: Step, stage: Entry) -> Way | None:
        asked = (way, repr(stage.flat()), step.epochs)
        if asked not in self._tried:
            if step.parent and self.context.store.has("steps", step.parent):
                return (*way, step.key)
            self._tried[asked] = self._try(way, step, stage)
        return self._tried[asked]

    def _try(self, way: Way, step: Step, stage: Entry) -> Way | None:
        """The way on from `step`, the same as to it if the stage leaves the structure alone; None if there is none."""
        self.context.progress.describe(f"trying {step.name} on the untrained network")
        network, on = None, None
        with self._noting(step, counts=False):
            telling, network = _is_telling(stage), self._network(way, step.seed)
        if network is None:
            return None
        with self._noting(step, counts=telling):
            structure, handed = str(network), self._handed(step)
            after = _restructured(network, step, stage, handed)
            on = way if after is network and str(after) == structure else (*way, step.key)
            self._networks[on] = after
            if telling and (rehearsed := getattr(stage.record.implementation(), "rehearse", None)):
                rehearsed(after, stage.settings, evolve(handed, baseline=partial(self._untrained, step.seed)))
        return on

    @contextmanager
    def _noting(self, step: Step, counts: bool) -> Iterator[None]:
        """What the block raises is in the log, and counts as a refusal or not."""
        try:
            yield
        except NotTrained:
            return
        except (Exception, SystemExit) as error:
            what = "a stage refused the untrained network" if counts else "a stage could not be tried untrained"
            self.context.log.exception(what, stage=step.name)
            self.refusals += [(step, error)] if counts else []

    def _network(self, way: Way, seed: int) -> nn.Module:
        """The untrained network at the end of a way, for one who may make another of it."""
        kept = self._networks.pop(way, None)
        if kept is not None or not way:
            return self._untrained(seed) if kept is None else kept
        step = self.context.plan.step(way[-1])
        assert step.stage
        return _restructured(self._network(way[:-1], seed), step, step.stage, self._handed(step))

    def _untrained(self, seed: int) -> nn.Module:
        from pqd_core.model import build_network

        return build_network(self.context.spec.backbone, self.context.info, seed).eval()

    def _handed(self, step: Step) -> StageContext:
        def baseline() -> nn.Module:
            raise NotTrained

        return evolve(self.context.stage_context(step, {}), baseline=baseline)


def _is_telling(stage: Entry) -> bool:
    """Whether the stage has to know the network's modules, or has something to say of it, and needs no evidence."""
    record = stage.record
    if not BASELINE_FACTS.issuperset(record.needs):
        return False
    return PLAIN_MODULES in (*record.needs, *record.ends) or hasattr(record.implementation(), "rehearse")


def _restructured(network: nn.Module, step: Step, stage: Entry, handed: StageContext) -> nn.Module:
    made = stage.record.implementation().restructure(network, stage.settings, handed)
    return check_model(made, step, "restructure")


def _told(step: Step, error: BaseException) -> tuple[Problem, ...]:
    if isinstance(error, PqdError):
        return error.problems
    return (Problem(step.name, f"raised {type(error).__name__}: {error}", "the whole error is in log.jsonl"),)


def _advice(stages: Iterable[str]) -> Problem:
    named = " and ".join(dict.fromkeys(stages))
    what = "tried on the untrained network, so nothing has been trained"
    return Problem(named, what, f"change what is named above, or leave {named} out of the stages")
