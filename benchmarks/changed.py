"""How many predictions change between the simulated INT8 network and the deployed file, on real test images.

    python benchmarks/changed.py

Runs `specs/changed-resnet20.yaml` and compares the network as it was trained, with its fake quantizers, with the file
of each runtime, on all test images. Three more answers of the simulation stand beside that: with all sums in double
precision, which is how far float arithmetic alone takes a right program from another; with the last bits of all sums
moved at random; and with biases as they are, not in the whole units in which integer runtimes add them. Writes
`results/changed.json`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import write_result
from scipy.stats import binomtest
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.sweep import jittered
from pqd_core import run
from pqd_core.artifact import Store
from pqd_core.batches import eval_batches
from pqd_core.context import RunContext
from pqd_core.deploy import deployment_key
from pqd_core.host import paths
from pqd_core.host.read_spec import read_spec
from pqd_core.model import rebuild
from pqd_core.plan import Step, build_plan
from pqd_int8.bias import drop_roundings
from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_int8.quantizer import LAYERS

ROOT = Path(__file__).parent.parent
SPEC = Path(__file__).parent / "specs" / "changed-resnet20.yaml"
BATCH = 250
APART = 0.02
"""Steps of the logits: above what float sums are known to, below what one value rounded otherwise does."""
Answers = np.ndarray
Asking = Callable[[Step, RunContext], Iterator[tuple[str, Answers]]]


class InDouble(fx.Interpreter):
    """Runs a simulated network with its layers, batch norms and roundings in double precision."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Layers add up in double precision."""
        if target in LAYERS:
            args = tuple(arg.double() if isinstance(arg, Tensor) else arg for arg in args)
        return super().call_function(target, args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Batch norms, too, and what is rounded is divided by its step."""
        part = self.module.get_submodule(target)
        if isinstance(part, _BatchNorm):
            statistics = (part.running_mean, part.running_var, part.weight, part.bias)
            parameters = [None if tensor is None else tensor.double() for tensor in statistics]
            return F.batch_norm(args[0].double(), *parameters, eps=part.eps)
        if isinstance(part, ActivationFakeQuant):
            step, zero = part.scale.double(), part.zero_point
            points = (args[0].double() / step).round().clamp(part.quant_min - zero, part.quant_max - zero)
            return (points * step).float()
        return super().call_module(target, args, kwargs)


def with_float_biases(model: fx.GraphModule) -> fx.GraphModule:
    """The simulation without the rounding of biases."""
    twin = copy.deepcopy(model)
    drop_roundings(twin)
    return twin


def answers(ask: Callable[[Tensor], Any], context: RunContext) -> Answers:
    """What is answered to each test image, (images, classes)."""
    batches = eval_batches(context.test, context.info, BATCH)
    return np.concatenate([np.asarray(ask(batch.inputs)) for batch in batches])


@torch.no_grad()
def all_answers(step: Step, context: RunContext) -> Iterator[tuple[str, Answers]]:
    """The simulated network's answers, those in other arithmetics, and those of each runtime's file."""
    artifact = context.store.find("steps", step.key)
    assert artifact is not None
    model: nn.Module = rebuild(artifact, step, context).model
    assert isinstance(model, fx.GraphModule)
    yield "simulated", answers(model, context)
    yield "in double precision", answers(lambda images: InDouble(model).run(images), context)
    yield "last bits", answers(lambda images: jittered(model, images), context)
    yield "biases not rounded", answers(with_float_biases(model), context)
    yield from deployed_answers(step, context)


def deployed_answers(step: Step, context: RunContext) -> Iterator[tuple[str, Answers]]:
    """Those of each runtime's file."""
    for runtime in context.spec.runtimes or ():
        deployed = context.store.find("deployed", deployment_key(step, runtime, context.threads))
        assert deployed is not None
        file = deployed.folder / deployed.about["file"]
        session = runtime.record.implementation().open_session(file, context.threads, runtime.settings, BATCH)
        yield runtime.name, answers(lambda images, ask=session: ask(images.numpy()), context)
        session.close()


def compared(step: Step, context: RunContext, ask: Asking = all_answers) -> dict[str, Any]:
    """Accuracy and changed predictions of each, with the exact 95 % interval of their share."""
    labels = np.concatenate([batch.targets for batch in eval_batches(context.test, context.info, BATCH)])
    found, simulated = {}, None
    for name, given in ask(step, context):
        simulated = given if simulated is None else simulated
        error = abs(given - simulated) / (np.ptp(simulated) / 255)
        changed = int((given.argmax(1) != simulated.argmax(1)).sum())
        ends = binomtest(changed, len(given)).proportion_ci(0.95, method="exact")
        found[name] = {
            "accuracy": float((given.argmax(1) == labels).mean()),
            "changed": changed / len(given),
            "interval": [float(ends.low), float(ends.high)],
            "images": len(given),
            "rms_in_steps": float(np.sqrt((error**2).mean())),
            "images_apart": float((error.max(1) > APART).mean()),
        }
        print(step.seed, name, found[name], flush=True)
    return found


def study(spec_file: Path, name: str, ask: Asking = all_answers) -> None:
    """Run the spec if its steps are not in the store, compare, and keep it as `results/NAME.json`."""
    spec = read_spec(spec_file)
    run(spec, ROOT / "local" / name)
    context = RunContext(build_plan(spec), Store(paths.default_store()))
    torch.set_num_threads(context.threads)
    last = [step for step in context.plan.steps if len(step.pipeline) == len(spec.stages)]
    numbers = {f"seed {step.seed}": compared(step, context, ask) for step in last}
    write_result(name, numbers, threads=context.threads, seeds=list(spec.seeds))


if __name__ == "__main__":
    study(SPEC, "changed")
