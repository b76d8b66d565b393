"""From a spec to the tree of steps: each stage run once, legal by facts, named by content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from pqd_core.facts import BASELINE_FACTS
from pqd_core.host.entries import FOR_KEY, Entry
from pqd_core.host.errors import PlanError, Problem
from pqd_core.host.keys import content_key
from pqd_core.host.plugins import Host, default_host
from pqd_core.legal import check_order
from pqd_core.spec import Spec
from pqd_core.study import Asked, ask, stage_names

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
    data: str
    """Content key of the data, as far as this seed's networks are trained on it."""
    facts: frozenset[str]
    """What holds of the model afterwards."""

    @property
    def name(self) -> str:
        """The stage's name, or `baseline`."""
        return self.stage.name if self.stage else BASELINE

    @property
    def label(self) -> str:
        """The pipeline in one word, also a folder's name; the same for every seed."""
        return "+".join(self.pipeline) or BASELINE


@frozen
class Work:
    """An amount of work without the baselines: stages run, and their epochs."""

    stage_runs: int
    epochs: int

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Work:
        """That of some steps."""
        epochs = [step.epochs for step in steps if step.stage]
        return cls(len(epochs), sum(epochs))


@frozen
class Saved:
    """Epochs that sharing saves."""

    stage_epochs: int
    baseline_epochs: int
    """Each pipeline alone would train its own baseline."""


@frozen
class Plan:
    """The steps that the asked pipelines share, one tree per seed, parents before children."""

    spec: Spec
    steps: tuple[Step, ...]
    pipelines: tuple[str, ...] = ()
    """Keys of the last steps of the asked pipelines, each once."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the pipelines came about."""

    def step(self, key: str) -> Step:
        """The step of that content key."""
        return next(step for step in self.steps if step.key == key)

    def name(self, step: Step) -> str:
        """The step's pipeline, and its seed where there are several."""
        return step.label + (f", seed {step.seed}" if len(self.spec.seeds) > 1 else "")

    def path_to(self, step: Step) -> list[Step]:
        """The steps from the baseline to `step`, which is the last."""
        before = self.path_to(self.step(step.parent)) if step.parent else []
        return [*before, step]

    def tree(self, seed: int) -> list[Step]:
        """The steps of one seed, each followed by those that go on from it."""

        def from_here(parent: str | None) -> list[Step]:
            children = [step for step in self.steps if (step.parent, step.seed) == (parent, seed)]
            return [found for child in children for found in (child, *from_here(child.key))]

        return from_here(None)

    def depth(self, step: Step) -> int:
        """How many stages lie behind the result."""
        return len(step.pipeline)

    @property
    def epochs(self) -> int:
        """Epochs of all steps together."""
        return sum(step.epochs for step in self.steps)

    @property
    def shared(self) -> Work:
        """The work of this plan, in which pipelines that begin alike share their beginning."""
        return Work.of(self.steps)

    @property
    def alone(self) -> Work:
        """The work of running each asked pipeline by itself."""
        return Work.of(passed for key in self.pipelines for passed in self.path_to(self.step(key)))

    @property
    def saved(self) -> Saved:
        """What running each asked pipeline by itself would take on top."""
        roots = sum(step.parent is None for step in self.steps)
        baselines = (len(self.pipelines) - roots) * self.spec.baseline.epochs
        return Saved(self.alone.epochs - self.shared.epochs, baselines)


def build_plan(spec: Spec, host: Host | None = None, pipelines: Sequence[Sequence[int]] | None = None) -> Plan:
    """The tree of steps for `pipelines`, each a sequence of indices into `spec.stages`; those of the study if None.

    Pipelines that begin alike share those steps, since a step's key depends on nothing but what came before it.

    Raises:
        PlanError: an order is illegal, there are too many pipelines, or a plugin objects.
    """
    host = host or default_host()
    asked = ask(spec) if pipelines is None else _given(spec, pipelines)
    grow = _Grower(spec)
    ends = dict.fromkeys(grow.path(pipeline, root) for root in grow.roots() for pipeline in asked.pipelines)
    plan = Plan(spec, tuple(grow.steps.values()), tuple(ends), (*asked.notes, *_left_empty(spec)))
    _ask_plugins(plan, host)
    return plan


def _left_empty(spec: Spec) -> Iterator[str]:
    """An empty list is no mistake, but whoever wrote it by accident should not wonder at an empty table."""
    if spec.runtimes == ():
        yield "runtimes is an empty list, so nothing is deployed and nothing measured"
    elif spec.measure == ():
        yield "measure is an empty list, so nothing is measured"


def _given(spec: Spec, pipelines: Sequence[Sequence[int]]) -> Asked:
    for pipeline in pipelines:
        check_order([spec.stages[i] for i in pipeline])
    return Asked(tuple(map(tuple, pipelines)))


def data_key(spec: Spec, seed: int) -> str:
    """Content key of the data that a network is trained on: the dataset, its files, and what is held out."""
    return content_key(dataset=spec.dataset.identity(), validation=spec.validation, seed=seed)


class _Grower:
    """Makes steps, each once."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.names, self.steps = spec, stage_names(spec), dict[str, Step]()
        self.stages = [(stage, stage.identity()) for stage in spec.stages]

    def roots(self) -> Iterator[Step]:
        """The baseline of each seed."""
        spec, backbone = self.spec, self.spec.backbone.identity()
        baseline = spec.baseline.model_dump(mode="json", context=FOR_KEY)
        task = {"task": spec.task.identity()} if spec.task else {}
        for seed in spec.seeds:
            data = data_key(spec, seed)
            key = content_key(backbone=backbone, baseline=baseline, seed=seed, data=data, **task)
            yield self._made(Step(key, None, (), None, spec.baseline.epochs, seed, data, BASELINE_FACTS))

    def path(self, pipeline: Sequence[int], root: Step) -> str:
        """Key of the last step of a pipeline that begins at `root`."""
        step = root
        for i, epochs in zip(pipeline, self.spec.stage_epochs(pipeline), strict=True):
            step = self._after(step, i, epochs)
        return step.key

    def _after(self, parent: Step, i: int, epochs: int) -> Step:
        (stage, identity), data = self.stages[i], parent.data
        key = content_key(parent=parent.key, stage=identity, epochs=epochs, seed=parent.seed, data=data)
        pipeline, facts = (*parent.pipeline, self.names[i]), stage.record.after(parent.facts)
        return self._made(Step(key, parent.key, pipeline, stage, epochs, parent.seed, data, facts))

    def _made(self, step: Step) -> Step:
        return self.steps.setdefault(step.key, step)


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
