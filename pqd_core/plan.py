"""From a spec to the tree of steps: each stage run once, legal by facts, named by content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from attrs import frozen

from pqd_core.facts import BASELINE_FACTS
from pqd_core.host.entries import FOR_KEY, Entry
from pqd_core.host.errors import PlanError, Problem
from pqd_core.host.keys import content_key
from pqd_core.host.plugins import Host, default_host
from pqd_core.spec import Spec

BASELINE = "baseline"


@frozen
class Step:
    """One stage run once, after the steps before it; the first step is the dense baseline, without a stage."""

    key: str
    parent: str | None
    pipeline: tuple[str, ...]
    """Names of the stages that the result has behind it; empty for the baseline."""
    stage: Entry | None
    epochs: int
    seed: int
    facts: frozenset[str]
    """What holds of the model afterwards."""

    @property
    def name(self) -> str:
        """The stage's name, or `baseline`."""
        return self.stage.name if self.stage else BASELINE

    @property
    def label(self) -> str:
        """The pipeline in one word, also a folder's name."""
        return "+".join(self.pipeline) or BASELINE


@frozen
class Plan:
    """The steps that the asked pipelines share, parents before children."""

    spec: Spec
    steps: tuple[Step, ...]

    def step(self, key: str) -> Step:
        """The step of that content key."""
        return next(step for step in self.steps if step.key == key)

    def path_to(self, step: Step) -> list[Step]:
        """The steps from the baseline to `step`, which is the last."""
        before = self.path_to(self.step(step.parent)) if step.parent else []
        return [*before, step]

    def depth(self, step: Step) -> int:
        """How many stages lie behind the result."""
        return len(step.pipeline)

    @property
    def epochs(self) -> int:
        """Epochs of all steps together."""
        return sum(step.epochs for step in self.steps)


def build_plan(spec: Spec, host: Host | None = None, pipelines: Sequence[Sequence[int]] | None = None) -> Plan:
    """The tree of steps for `pipelines`, each a sequence of indices into `spec.stages`; as written if None.

    Pipelines that begin alike share those steps, since a step's key depends on nothing but what came before it.

    Raises:
        PlanError: an order is illegal, or a plugin objects.
    """
    host = host or default_host()
    pipelines = [range(len(spec.stages))] if pipelines is None else pipelines
    epochs, data = spec.stage_epochs(), data_key(spec)
    steps: dict[str, Step] = {}
    for pipeline in pipelines:
        check_order([spec.stages[i] for i in pipeline])
        step = _baseline_step(spec, data)
        steps.setdefault(step.key, step)
        for i in pipeline:
            step = _next_step(step, spec.stages[i], epochs[i], data)
            steps.setdefault(step.key, step)
    plan = Plan(spec, tuple(steps.values()))
    _ask_plugins(plan, host)
    return plan


def data_key(spec: Spec) -> str:
    """Content key of the data that a network is trained on: the dataset, its files, and what is held out."""
    return content_key(dataset=spec.dataset.identity(), validation=spec.validation, seed=spec.seed)


def _baseline_step(spec: Spec, data: str) -> Step:
    baseline = spec.baseline.model_dump(mode="json", context=FOR_KEY)
    task = {"task": spec.task.identity()} if spec.task else {}
    key = content_key(backbone=spec.backbone.identity(), baseline=baseline, seed=spec.seed, data=data, **task)
    return Step(key, None, (), None, spec.baseline.epochs, spec.seed, BASELINE_FACTS)


def _next_step(parent: Step, stage: Entry, epochs: int, data: str) -> Step:
    key = content_key(parent=parent.key, stage=stage.identity(), epochs=epochs, seed=parent.seed, data=data)
    facts = stage.record.after(parent.facts)
    return Step(key, parent.key, (*parent.pipeline, stage.name), stage, epochs, parent.seed, facts)


def check_order(stages: Sequence[Entry]) -> None:
    """Each stage finds the facts it needs.

    Raises:
        PlanError: naming the step, the fact, the step that ended it, and the nearest legal order.
    """
    if broken := next(_broken(stages), None):
        position, fact, ender = broken
        stage = stages[position]
        raise PlanError(
            Problem(
                f"stages.{position}.{stage.name}",
                f"step {position + 1}, {stage.name}, needs a model that is {fact}, {_who(stages, ender)}",
                _advice(stages),
            )
        )


def _broken(stages: Sequence[Entry]) -> Iterator[tuple[int, str, int | None]]:
    """(position, fact it lacks, position of the stage that ended the fact) of each stage that cannot run."""
    facts, ended = BASELINE_FACTS, dict[str, int]()
    for position, stage in enumerate(stages):
        for fact in stage.record.needs:
            if fact not in facts:
                yield position, fact, ended.get(fact)
        after = stage.record.after(facts)
        ended.update(dict.fromkeys(facts - after, position))
        facts = after


def _who(stages: Sequence[Entry], ender: int | None) -> str:
    if ender is None:
        return "which no step before it gives"
    return f"which step {ender + 1}, {stages[ender].name}, ended"


def _advice(stages: Sequence[Entry]) -> str:
    order = nearest_legal_order(stages)
    if order is None:
        return "no order of these stages is legal; leave one out"
    return "the nearest legal order is " + " -> ".join(stages[i].name for i in order)


def nearest_legal_order(stages: Sequence[Entry]) -> tuple[int, ...] | None:
    """The legal order with the fewest swaps of neighbours from the written one, None if there is none.

    Dijkstra's search; a state is the stages that have run and the facts that hold.
    """
    queue: list[tuple[int, tuple[int, ...], frozenset[str]]] = [(0, (), BASELINE_FACTS)]
    seen = set()
    while queue:
        swaps, order, facts = heappop(queue)
        if len(order) == len(stages):
            return order
        if (state := (frozenset(order), facts)) in seen:
            continue
        seen.add(state)
        waiting = (i for i in range(len(stages)) if i not in order)
        for passed, i in enumerate(waiting):
            if facts.issuperset(stages[i].record.needs):
                heappush(queue, (swaps + passed, (*order, i), stages[i].record.after(facts)))
    return None


def _ask_plugins(plan: Plan, host: Host) -> None:
    objections = [p for owner, ask in host.each("pqd_check_plan", plan=plan) for p in _objections(owner, ask)]
    if objections:
        raise PlanError(*objections)


def _objections(owner: str, ask: Callable[[], Any]) -> list[Problem]:
    """What one plugin objects to; a check that fails is an objection too, as it has checked nothing."""
    try:
        return [Problem(p.where, f"{p.what} (plugin {owner})", p.hint) for p in ask() or ()]
    except Exception as error:
        hint = f"leave it out with PQD_DISABLE_PLUGINS={owner}, and tell its author"
        return [Problem("", f"plugin {owner} failed in pqd_check_plan: {error!r}", hint)]
