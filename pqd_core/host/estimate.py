"""How long a plan will take, judged by what the store remembers of the same network on the same data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from statistics import mean
from typing import Any

from attrs import frozen

from pqd_core.artifact import Store
from pqd_core.deploy import is_deployed
from pqd_core.host.entries import entries_or_all
from pqd_core.host.environment import usable_cores
from pqd_core.host.plugins import Host, default_host
from pqd_core.plan import BASELINE, Plan, Step

FOREIGN = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What reading a manifest raises that another version, or another program, has written."""


@frozen
class Estimate:
    """Seconds to go, one step after another, and what that rests on."""

    seconds: float
    measured_steps: int
    guessed: tuple[str, ...]
    """Stages that have not run here yet, taken as the slowest that has."""
    runtimes_unknown: tuple[str, ...]
    """Runtimes that nothing was deployed to yet, which are not counted."""


@frozen
class _Past:
    """A step of the same network and data that was made once."""

    key: str
    name: str
    before: frozenset[str]
    """What had been done to the network, in whatever order."""
    fixed_s: float
    per_epoch_s: float

    def seconds(self, epochs: int) -> float:
        return self.fixed_s + epochs * self.per_epoch_s


def estimate(plan: Plan, store: Store, host: Host | None = None) -> Estimate | None:
    """The time that what is not done yet will take; None if nothing comparable was ever measured here."""
    threads = plan.spec.threads or usable_cores()
    past = list(_past_steps(plan, store, threads))
    if not past:
        return None
    guessed, seconds = dict[str, None](), 0.0
    for step in plan.steps:
        if not store.has("steps", step.key):
            alike = [p.seconds(step.epochs) for p in _alike(step, plan, past)]
            guessed |= {} if alike else {step.name: None}
            seconds += mean(alike) if alike else max(p.seconds(step.epochs) for p in past)
    took, unknown = _deployments(past, store), dict[str, None]()
    for runtime in entries_or_all(plan.spec.runtimes, host or default_host(), "runtime"):
        left = [step for step in plan.steps if not is_deployed(step, runtime, threads, store)]
        known = took.get(_use(runtime.flat()))
        unknown |= {runtime.name: None} if left and known is None else {}
        seconds += len(left) * (known or 0.0)
    return Estimate(seconds, len(past), tuple(guessed), tuple(unknown))


def _past_steps(plan: Plan, store: Store, threads: int) -> Iterator[_Past]:
    """Steps of the same network on the same data and device; manifests that say something else are passed over."""
    spec = plan.spec
    asked = (spec.backbone.flat(), spec.dataset.flat(), threads)
    for key, about in store.remembered("steps"):
        with suppress(*FOREIGN):
            backbone = about["lineage"][0]["stage"]["backbone"]
            if asked == (backbone, about["data"], about["threads"]) and about["device"] == _device(spec.device):
                yield _past_step(key, about)


def _device(asked: str) -> str:
    """Where a run would train; torch is asked only where nothing else can tell, as importing it takes seconds."""
    if asked != "auto":
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _past_step(key: str, about: Mapping[str, Any]) -> _Past:
    uses = [_use(passed["stage"]) for passed in about["lineage"][1:]]
    epochs = [epoch["seconds"] for epoch in about["history"] if "seconds" in epoch]
    if not epochs and about["epochs"]:  # a stage with a training loop of its own, which took no times
        epochs = [about["seconds"] / about["epochs"]] * about["epochs"]
    per_epoch = mean(epochs) if epochs else 0.0
    return _Past(key, (uses or [BASELINE])[-1], frozenset(uses[:-1]), about["seconds"] - sum(epochs), per_epoch)


def _alike(step: Step, plan: Plan, past: list[_Past]) -> list[_Past]:
    """What is most like the step: the same stage after the same stages, else the same stage."""
    uses = [_use(passed.stage.flat()) for passed in plan.path_to(step) if passed.stage]
    same = [p for p in past if p.name == (uses or [BASELINE])[-1]]
    return [p for p in same if p.before == frozenset(uses[:-1])] or same


def _deployments(past: list[_Past], store: Store) -> dict[str, float]:
    """Seconds of a deployment by runtime."""
    keys, took = {p.key for p in past}, defaultdict[str, list[float]](list)
    for _, about in store.remembered("deployed"):
        with suppress(*FOREIGN):
            if about["step"] in keys:
                took[_use(about["runtime"])].append(float(about["seconds"]))
    return {runtime: mean(seconds) for runtime, seconds in took.items()}


def _use(flat: Mapping[str, Any]) -> str:
    return str(flat["use"])
