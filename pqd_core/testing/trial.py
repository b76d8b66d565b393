"""A stage tried by the core itself: on a toy network, after other stages, and once more by hand."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, evolve, field
from torch import Tensor, nn

from pqd_core.artifact import Artifact, Store
from pqd_core.batches import eval_batches
from pqd_core.context import RunContext
from pqd_core.data import Arrays
from pqd_core.fit import at_rest
from pqd_core.host.read_spec import parse_spec
from pqd_core.model import Network, freeze, rebuild
from pqd_core.plan import Step, build_plan
from pqd_core.records import StageDef
from pqd_core.stage import StageContext, execute_step
from pqd_core.testing.case import Case
from pqd_core.testing.state import watched
from pqd_core.testing.workshop import GIVEN, Workshop, workshop

IMAGES = 96


@define(eq=False)
class Trial:
    """One stage on one toy network, run once; what it did is kept for all checks."""

    shop: Workshop
    before: tuple[str, ...] = ()
    backbone: str = "toy-residual"
    epochs: int = 1
    process_changes: list[str] = field(factory=list)
    """What the stage changed in the process, once it has run."""
    data_changed: bool = False

    @cached_property
    def context(self) -> RunContext:
        """A plan of toys that ends with the stage, and an empty store."""
        from pqd_core.testing import toy_spec

        case, budget = self.shop.case, {"epochs": self.epochs}
        earlier = [{"use": f"{GIVEN}:{stage.name}"} for stage in case.after] + [{"use": name} for name in self.before]
        assert isinstance(case.record, StageDef)
        stage = {**self.shop.values, "use": f"{GIVEN}:{case.name}", **(budget if case.record.trains else {})}
        spec = parse_spec(
            toy_spec(
                backbone=self.backbone,
                dataset={"use": "toy-blobs", "images": IMAGES},
                baseline={"epochs": 3, "batch_size": 32, "lr": 0.05, "augment": False},
                stages=[*earlier, stage],
                budget={"epochs": len(earlier) + 1},
            ),
            self.shop.host,
        )
        return RunContext(build_plan(spec, self.shop.host), Store(self.shop.new_folder("store")), self.shop.host)

    @property
    def step(self) -> Step:
        """The stage's step."""
        return self.context.plan.steps[-1]

    @cached_property
    def parent(self) -> Artifact:
        """What the stage starts from; what the kit's own parts make is made once for all cases."""
        shared = not self.shop.case.after
        context = evolve(self.context, store=Store(starts_folder())) if shared else self.context
        made: Artifact | None = None
        for step in context.plan.steps[:-1]:
            made = context.store.find("steps", step.key) or execute_step(step, made, context)
        if shared:
            shutil.copytree(context.store.root / "steps", self.context.store.root / "steps", copy_function=os.link)
        found = self.context.store.find("steps", context.plan.steps[-2].key)
        assert found is not None
        return found

    @cached_property
    def artifact(self) -> Artifact:
        """What the stage left, as the core runs and checks it."""
        parent, train = self.parent, self.context.data().train
        assert isinstance(train, Arrays)
        images = train.images.copy()
        with watched(seeded=True) as changes:
            artifact = execute_step(self.step, parent, self.context)
        self.process_changes += changes
        self.data_changed = not np.array_equal(images, train.images)
        return artifact

    @cached_property
    def live(self) -> Network:
        """The stage's network as it left `run`, of a second run that began in a process of other random states."""
        shake()
        network = rebuild(self.parent, self.context.plan.step(self.parent.key), self.context)
        handed = self.stage_context(network)
        torch.manual_seed(self.step.seed)
        for duty in ("restructure", "run"):
            network.model = getattr(self.implementation, duty)(network.model, self.shop.settings, handed)
        return Network(at_rest(network.model), handed.facts)

    def stage_context(self, network: Network) -> StageContext:
        """What the core would hand the stage."""
        return self.context.stage_context(self.step, dict(network.facts))

    @property
    def implementation(self) -> Any:
        """The stage's code."""
        return self.shop.case.component.implementation()

    def rebuilt(self) -> Network:
        """The network that the artifact holds."""
        return rebuild(self.artifact, self.step, self.context)

    def frozen(self) -> nn.Module:
        """The form to deploy of what the artifact holds."""
        return freeze(self.rebuilt(), self.step, self.context)

    def answers(self, model: nn.Module) -> Tensor:
        """Logits of the toy test images."""
        return answers(model, self.context)


@cache
def starts_folder() -> Path:
    """A store of this process, for what the kit's own parts make."""
    folder = tempfile.mkdtemp(prefix="pqd-check-starts-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def answers(model: nn.Module, context: RunContext) -> Tensor:
    """Logits of the test images, (N, classes)."""
    with torch.inference_mode():
        return torch.cat([model(batch.inputs) for batch in eval_batches(context.data().test, context.info, 32)])


def shake() -> None:
    """The random states that code may share with others are somewhere else."""
    random.seed(str(Path.cwd()) + str(random.random()))
    np.random.seed(random.randrange(2**32))
    torch.manual_seed(random.randrange(2**32))


def trial(case: Case, *before: str, **changes: Any) -> Trial:
    """The trial of a case on that start, made once."""
    shop, key = workshop(case), (Trial, before, tuple(changes.items()))
    if key not in shop.shared:
        shop.shared[key] = Trial(shop, before, **changes)
    found: Trial = shop.shared[key]
    return found
