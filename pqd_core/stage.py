"""What a stage is, what it is handed, and how the core runs one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

from pqd_core.host.contract import check_contract, check_model
from pqd_core.records import FactDef, resolve
from pqd_core.task import CLASSIFICATION, Task

if TYPE_CHECKING:
    import torch
    from structlog.typing import FilteringBoundLogger
    from torch import Tensor, nn

    from pqd_core.artifact import Artifact
    from pqd_core.context import RunContext
    from pqd_core.data import Data, DataInfo
    from pqd_core.host.entries import BackboneEntry
    from pqd_core.plan import Step
    from pqd_core.spec import Baseline

Evidence = Mapping[str, "Tensor"]


class Stage(Protocol):
    """The three duties of a stage. A module with these three functions is a stage.

    It may also have `rehearse(model, settings, context)`, which is called before anything is trained, and raises a
    `PqdError` for what `run` would refuse whatever the weights are. The model is an untrained one, restructured by this
    stage and those before it and thrown away afterwards, and `context.baseline()` is untrained, too.
    """

    def restructure(self, model: nn.Module, settings: Any, context: StageContext) -> nn.Module:
        """Change the structure only, deterministically: used on the first run and to rebuild a saved artifact."""
        ...

    def run(self, model: nn.Module, settings: Any, context: StageContext) -> nn.Module:
        """Do the work on the restructured model, usually by calling `fit` with a loss and callbacks."""
        ...

    def freeze(self, model: nn.Module) -> nn.Module:
        """Turn the training form into the form to deploy; the model is the caller's own copy, in eval mode."""
        ...


@define
class StageContext:
    """What a stage is handed besides the model and its settings."""

    epochs: int
    """Epochs that `fit` trains for; 0 if the stage gets none."""
    seed: int
    """Of the run; torch's random state was set from it before the stage began."""
    device: torch.device
    """Where to train; the model comes and goes on the CPU."""
    info: DataInfo
    """Shape of the images, number of outputs, normalization."""
    example: Tensor
    """A batch (2, C, H, W) of normalized float32 zeros on the CPU, for tracing."""
    log: FilteringBoundLogger
    progress: Callable[[int], None]
    """Called with the number of images trained on since the last call."""
    _open_data: Callable[[], Data]
    _baseline: Callable[[], nn.Module]
    _build: Callable[[BackboneEntry, Path | None], nn.Module]
    _known_facts: Mapping[str, FactDef] = field(factory=dict)
    task: Task = field(default=CLASSIFICATION)
    """What the outputs mean, with the loss on labels and on a teacher's outputs."""
    _initial: Callable[[], nn.Module] | None = None
    facts: dict[str, dict[str, Tensor]] = field(factory=dict)
    """Evidence of each fact that holds, by fact; empty for a fact that needs none."""
    history: list[dict[str, float]] = field(factory=list)
    """The training curve, one entry an epoch; `fit` appends to it."""

    @property
    def data(self) -> Data:
        """The dataset, opened on first use."""
        return self._open_data()

    def baseline(self) -> nn.Module:
        """A fresh copy of the dense baseline network, trained, in eval mode, on the CPU."""
        return self._baseline()

    def initial(self) -> nn.Module:
        """A fresh copy of the network that the baseline's training started from: new weights, or the checkpoint's."""
        assert self._initial is not None, "this context was made without an initial network"
        return self._initial()

    def build(self, backbone: BackboneEntry, checkpoint: Path | None) -> nn.Module:
        """Another network for the same data, with the weights of `checkpoint` (safetensors or a state dict)."""
        return self._build(backbone, checkpoint)

    def give(self, fact: str, evidence: Evidence | None = None) -> None:
        """State that `fact` holds from here on; `evidence` is saved and handed to the fact's probe."""
        self.facts[fact] = {name: tensor.to(self.device) for name, tensor in (evidence or {}).items()}

    def hold_facts(self, model: nn.Module) -> None:
        """Restore what this stage is to keep or give (a pruning mask, say); `fit` does so after each step."""
        for name, evidence in self.facts.items():
            fact = self._known_facts.get(name)
            if fact is not None and fact.hold is not None:
                resolve(fact.hold)(model, evidence)

    def move_facts(self) -> None:
        """Bring all evidence to the device that training runs on."""
        for evidence in self.facts.values():
            evidence.update({name: tensor.to(self.device) for name, tensor in evidence.items()})


def execute_step(step: Step, parent: Artifact | None, context: RunContext) -> Artifact:
    """Run one step on its parent's artifact and save what it gives; the core's own answer to `pqd_run_step`."""
    import torch

    from pqd_core.fit import at_rest
    from pqd_core.model import Network, build_network, network_state, rebuild

    began = time.perf_counter()
    if step.stage is None or parent is None:
        network = Network(build_network(context.spec.backbone, context.info, step.seed), {})
        stage_context = context.stage_context(step, network.facts)
        torch.manual_seed(step.seed)
        _train_baseline(network.model, stage_context, context.spec.baseline)
    else:
        network = rebuild(parent, context.plan.step(parent.key), context)
        stage_context = context.stage_context(step, dict(network.facts))
        torch.manual_seed(step.seed)
        stage = step.stage.record.implementation()
        for duty in ("restructure", "run"):
            model = getattr(stage, duty)(network.model, step.stage.settings, stage_context)
            network.model = check_model(model, step, duty)
        network.facts = stage_context.facts
    at_rest(network.model)
    network.facts = check_contract(network, step, context.host.facts)
    about = {
        "pipeline": list(step.pipeline),
        "parent": step.parent,
        "stage": step.stage.flat() if step.stage else None,
        "epochs": step.epochs,
        "seed": step.seed,
        "data": context.spec.dataset.flat(),
        "threads": context.threads,
        "device": context.device.type,
        "facts": sorted(network.facts),
        "history": stage_context.history,
        "seconds": time.perf_counter() - began,
        "lineage": context.lineage(step),
    }
    return context.save_step(step, network_state(network), about)


def _train_baseline(model: nn.Module, context: StageContext, baseline: Baseline) -> None:
    from pqd_core.fit import fit
    from pqd_core.model import load_weights, read_weights

    if baseline.checkpoint:
        load_weights(model, read_weights(baseline.checkpoint), str(baseline.checkpoint))
    if context.epochs:
        fit(model, context, baseline)
