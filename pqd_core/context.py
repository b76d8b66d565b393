"""What every step, deployment and measurement of one run shares."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field

from pqd_core.artifact import Artifact, Store, save_tensors
from pqd_core.host.entries import Entry
from pqd_core.host.environment import describe_environment, usable_cores
from pqd_core.host.errors import DataError, PqdError, Problem
from pqd_core.host.log import get_logger
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.progress import Progress, Quiet
from pqd_core.plan import Plan, Step
from pqd_core.spec import Spec
from pqd_core.task import CLASSIFICATION, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pqd_core.data import Data, DataInfo, Split
    from pqd_core.model import Facts
    from pqd_core.stage import StageContext


@define
class RunContext:
    """One run's plan, store and data; heavy things are opened on first use."""

    plan: Plan
    store: Store
    host: Host = field(factory=default_host)
    progress: Progress = field(factory=Quiet)
    remeasure: bool = False
    """Measure again even what was measured before on this machine."""
    log: Any = field(factory=lambda: get_logger("pqd.run"))
    _held: tuple[int, Data] | None = None
    _frozen: tuple[str, nn.Module] | None = None

    @property
    def spec(self) -> Spec:
        """What was asked."""
        return self.plan.spec

    @property
    def threads(self) -> int:
        """CPU threads to train, deploy and measure with."""
        return self.spec.threads or usable_cores()

    @cached_property
    def device(self) -> torch.device:
        """Where to train.

        Raises:
            DataError: the spec asks for a CUDA device and there is none.
        """
        import torch

        found = torch.cuda.is_available()
        if self.spec.device == "cuda" and not found:
            raise DataError(Problem("device", "no CUDA device is here", "write 'auto' or 'cpu'"))
        return torch.device("cpu" if self.spec.device == "cpu" or not found else "cuda")

    @cached_property
    def task(self) -> Task:
        """What the network's outputs mean."""
        asked = self.spec.task
        return asked.record.implementation()(asked.settings) if asked else CLASSIFICATION

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The machine and the versions."""
        return describe_environment(self.threads, self.device.type)

    @cached_property
    def _opened(self) -> Data:
        from pqd_core.data import check_data

        dataset = self.spec.dataset
        try:
            opened = dataset.record.implementation().open_data(dataset.settings)
        except PqdError:
            raise
        except (Exception, SystemExit) as error:
            self.log.exception("the data cannot be opened")
            what = f"cannot be opened ({type(error).__name__}: {error})"
            raise DataError(Problem(f"dataset.{dataset.name}", what, "the whole error is in log.jsonl")) from error
        check_data(opened, self.task)
        return cast("Data", opened)

    def data(self, seed: int | None = None) -> Data:
        """The dataset, opened and checked once, with the validation share of that seed (or the first) held out."""
        from pqd_core.data import hold_out

        seed = self.spec.seeds[0] if seed is None else seed
        if self._held is None or self._held[0] != seed:  # one is kept, as a study goes through it seed by seed
            self._held = (seed, hold_out(self._opened, self.spec.validation, seed))
        return self._held[1]

    @property
    def test(self) -> Split:
        """The test images, the same for every seed."""
        return self._opened.test

    @property
    def info(self) -> DataInfo:
        """What a network has to know of the data."""
        return self._opened.info

    @cached_property
    def example(self) -> Tensor:
        """A batch (2, C, H, W) of zeros on the CPU, for tracing."""
        import torch

        return torch.zeros(2, *self.info.shape)

    def stage_context(self, step: Step, facts: Facts) -> StageContext:
        """What the stage of `step` is handed."""
        from pqd_core.stage import StageContext

        return StageContext(
            epochs=step.epochs,
            seed=step.seed,
            device=self.device,
            info=self.info,
            example=self.example,
            log=self.log,
            progress=self.progress.advance,
            open_data=partial(self.data, step.seed),
            baseline=partial(self._baseline, step),
            build=partial(self._build, step.seed),
            known_facts={name: fact for name, fact in self.host.facts.items() if name in step.facts},
            facts=facts,
            task=self.task,
            initial=partial(self._build, step.seed, self.spec.backbone, self.spec.baseline.checkpoint),
        )

    def _baseline(self, step: Step) -> nn.Module:
        from pqd_core.model import rebuild

        step = self.plan.path_to(step)[0]
        artifact = self.store.find("steps", step.key)
        if artifact is None:
            raise DataError(Problem("baseline", "is no longer in the store", "run again"))
        return rebuild(artifact, step, self).model

    def _build(self, seed: int, backbone: Entry, checkpoint: Path | None) -> nn.Module:
        from pqd_core.model import build_network, load_weights, read_weights

        model = build_network(backbone, self.info, seed)
        if checkpoint:
            load_weights(model, read_weights(checkpoint), str(checkpoint))
        return model.eval()

    def frozen_model(self, step: Step) -> nn.Module:
        """The form to deploy of a step in the store; the last one is kept, as it is asked for in a row."""
        from pqd_core.model import freeze, rebuild

        if self._frozen is None or self._frozen[0] != step.key:
            artifact = self.store.find("steps", step.key)
            if artifact is None:
                raise DataError(Problem(self.plan.name(step), "is no longer in the store", "run again"))
            self._frozen = (step.key, freeze(rebuild(artifact, step, self), step, self))
        return self._frozen[1]

    def lineage(self, step: Step) -> list[dict[str, Any]]:
        """The requests behind a step, the baseline's first, as they are written into manifests."""
        return [
            {
                "key": passed.key,
                "stage": passed.stage.flat() if passed.stage else {"backbone": self.spec.backbone.flat()},
                "epochs": passed.epochs,
                "seed": passed.seed,
            }
            for passed in self.plan.path_to(step)
        ]

    def save_step(self, step: Step, tensors: Mapping[str, Mapping[str, Tensor]], about: Mapping[str, Any]) -> Artifact:
        """The artifact of a finished step, safely in the store."""
        with self.store.saved("steps", step.key, about) as folder:
            for name, values in tensors.items():
                save_tensors(values, folder / name)
        return Artifact(step.key, self.store.folder("steps", step.key), about)
