"""Any network with its data, compressed from a script or a notebook: the whole path behind one call."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pqd_core.host.errors import DataError, PqdError, Problem
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.quiet import quiet_neighbours
from pqd_core.host.rows import Row
from pqd_core.report import Report
from pqd_core.run import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pqd_core.goals import Goal
    from pqd_core.spec import Spec

STAGES = ("magnitude", "int8-qat", "logit-kd")
GOAL = {"metric": "latency_ms", "max_accuracy_drop": 0.01}


@frozen(eq=False)
class Compressed:
    """What `compress` gives back."""

    report: Report
    best: Row | None
    """The pipeline that wins under the goal, with its file; None if none keeps the accuracy."""
    model: nn.Module | None
    """The best pipeline's network, frozen, in eval mode: what its file was exported from."""

    @property
    def files(self) -> dict[tuple[str, str], Path]:
        """The deployed file of each pipeline (`magnitude -> int8-qat`) and runtime, of the first seed."""
        rows = reversed(self.report.rows)
        return {(row.label, row.runtime): self.report.folder / row.file for row in rows}


def compress(
    model: nn.Module,
    train_data: Any,
    test_data: Any,
    stages: Sequence[str | Mapping[str, Any]] = STAGES,
    *,
    goal: Mapping[str, Any] | None = None,
    name: str = "own-model",
    out: Path | str | None = None,
    store: Path | str | None = None,
    show_progress: bool = True,
    host: Host | None = None,
    **spec: Any,
) -> Compressed:
    """`model` is compressed by `stages`, deployed and measured at every step; it is itself never changed.

    Either data is a pair (images, labels) of tensors or arrays, a map-style dataset, or a loader of one. Images of
    uint8 are normalized by their own statistics, float32 ones are taken as they are. The network counts as trained
    unless `baseline={"epochs": ...}` says otherwise. `goal` says what to be best at (`metric`) and what accuracy may be
    lost (`max_accuracy_drop`); any other keyword is a field of `Spec`: `budget`, `runtimes`, `study`, `seeds`, `task`.

    Raises:
        PqdError: the data, the settings or the order cannot be; a stage fails.
    """
    host, goal = host or default_host(), GOAL if goal is None else goal
    with quiet_neighbours():
        asked = _ask(model, train_data, test_data, {"stages": [*stages], "name": name, "goals": [goal], **spec}, host)
        report = _run(asked, out, store, host, show_progress)
        best = _best(report, asked.goals)
        return Compressed(report, best, _frozen(asked, best.step, store, host) if best else None)


def _ask(model: nn.Module, train: Any, test: Any, spec: Mapping[str, Any], host: Host) -> Spec:
    from pqd_core.host.own_data import first_images, own_dataset
    from pqd_core.host.own_network import own_backbone
    from pqd_core.host.read_spec import parse_spec

    backbone, dataset = own_backbone(model, spec["name"]), own_dataset(train, test, f"{spec['name']}-data")
    outputs = _outputs(model, first_images(train))
    parts = {"backbone": backbone, "dataset": dataset(outputs), "baseline": {"epochs": 0}}
    return parse_spec({**parts, **spec}, host)


def _outputs(model: nn.Module, images: Tensor) -> int:
    """How many numbers the network gives for an image, asked of a copy.

    Raises:
        DataError: it does not take such images.
    """
    import torch

    try:
        with torch.inference_mode():
            logits = copy.deepcopy(model).cpu().eval()(images)
    except Exception as error:
        what = f"does not take images {tuple(images.shape)} ({type(error).__name__}: {error})"
        raise DataError(Problem("model", what, "give the data that the network is made for")) from error
    if not isinstance(logits, torch.Tensor) or logits.shape[:1] != images.shape[:1] or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise DataError(Problem("model", f"gives {found} for {len(images)} images", "it has to give (N, outputs)"))
    return logits.shape[1]


def _run(asked: Spec, out: Path | str | None, store: Path | str | None, host: Host, show_progress: bool) -> Report:
    if not show_progress:
        return run(asked, out, store=store, host=host)
    from rich.console import Console

    from pqd_core.host.progress import Bar

    with Bar(Console(stderr=True)).shown() as bar:
        return run(asked, out, store=store, host=host, progress=bar)


def _best(report: Report, goals: Sequence[Goal]) -> Row | None:
    """The winner under the first goal; None if there is none, and the report says how far each pipeline misses it."""
    if not goals:
        return None
    metric, drop, runtime = goals[0].metric, goals[0].max_accuracy_drop, goals[0].runtime
    try:
        return report.best(metric, 1.0 if drop is None else drop, runtime)
    except PqdError:
        return None


def _frozen(asked: Spec, key: str, store: Path | str | None, host: Host) -> nn.Module | None:
    from pqd_core.artifact import Store
    from pqd_core.context import RunContext
    from pqd_core.host.paths import default_store
    from pqd_core.model import freeze, rebuild
    from pqd_core.plan import build_plan

    plan = build_plan(asked, host)
    context = RunContext(plan, Store(Path(store) if store else default_store()), host)
    step = plan.step(key)
    artifact = context.store.find("steps", key)
    return freeze(rebuild(artifact, step, context), step, context) if artifact else None
