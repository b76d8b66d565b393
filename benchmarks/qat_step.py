"""One training step under simulated INT8 against the same step by torchao's PT2E route as its tutorial has it.

    python benchmarks/qat_step.py [--rounds 30] [--threads 2] [--batch 128]

Three networks of the same weights take a step each in every round: in float, as `int8-qat` makes it, and by hand, with
torchao's own fake quantizers, observers and batch-norm fusion. Both quantized ones put fake quantizers in the same
places, which is checked.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from evidence import summary, write_result
from torch import nn
from torch.nn import functional as F
from torchao.quantization.pt2e import (
    FakeQuantizeBase,
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    allow_exported_model_train_eval,
)
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from pqd_core import DataInfo, StageContext
from pqd_core.host.log import get_logger

SEED, WARM_UP = 0, 3
INFO = DataInfo("random", (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3)
EXAMPLE = torch.zeros(2, *INFO.shape)
A = torch.ops.aten
ADDS = (A.add.Tensor, A.add_.Tensor)
FUSED_BEHIND = (A.batch_norm.default, A.relu.default, A.relu_.default)


def make_network() -> nn.Module:
    """resnet20 at full width for 32x32 images."""
    from pqd_vision import resnet20

    torch.manual_seed(SEED)
    settings: Any = SimpleNamespace(width=1.0)
    return resnet20.build(settings, INFO)


def ours() -> nn.Module:
    """As `int8-qat` makes it."""
    from pqd_int8 import Int8QatSettings, int8_qat

    context = StageContext(
        epochs=1,
        seed=SEED,
        device=torch.device("cpu"),
        info=INFO,
        example=EXAMPLE,
        log=get_logger("benchmark"),
        progress=lambda _: None,
        open_data=lambda: None,  # type: ignore[arg-type, return-value]
        baseline=make_network,
        build=lambda *_: make_network(),
    )
    return int8_qat.restructure(make_network(), Int8QatSettings(weight_range="full"), context)


def by_hand() -> nn.Module:
    """As one writes it with torchao alone."""
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    graph = torch.export.export(make_network().train(), (EXAMPLE,), dynamic_shapes=shapes).module()
    prepared: nn.Module = prepare_qat_pt2e(graph, ByHand())
    allow_exported_model_train_eval(prepared)
    return prepared


class ByHand(Quantizer):  # type: ignore[misc]
    """uint8 per tensor for what a layer or an addition reads and writes, int8 per channel for weights."""

    activation = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0
        ),
    )

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Inputs at each operator, outputs at the end of each chain."""
        for node in model.graph.nodes:
            inputs: dict[Any, QuantizationSpec] = {}
            if node.target in (A.conv2d.default, A.linear.default):
                inputs = {node.args[0]: self.activation, node.args[1]: self.weight}
            elif node.target in ADDS and all(isinstance(operand, torch.fx.Node) for operand in node.args):
                inputs = dict.fromkeys(node.args, self.activation)
            if inputs:
                self._note(node).input_qspec_map.update(inputs)
                last = _last(node)
                if all(user.op != "output" for user in last.users):
                    self._note(last).output_qspec = self.activation
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        """Nothing to check."""

    @staticmethod
    def _note(node: torch.fx.Node) -> Any:
        return node.meta.setdefault("quantization_annotation", QuantizationAnnotation(_annotated=True))


def _last(node: torch.fx.Node) -> torch.fx.Node:
    while len(node.users) == 1 and (user := next(iter(node.users))).target in FUSED_BEHIND:
        node = user
    return node


def make_step(model: nn.Module, batch: int) -> Callable[[], float]:
    """A training step on fixed random images; gives its loss."""
    torch.manual_seed(SEED)
    images, labels = torch.randn(batch, *INFO.shape), torch.randint(0, INFO.num_classes, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    model.train()

    def step() -> float:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def quantizers(model: nn.Module) -> int:
    """How many places of the graph are rounded."""
    return sum(isinstance(part, FakeQuantizeBase) for part in model.modules())


def main() -> None:
    """Take steps in turns and write their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    models = {"float": make_network(), "int8_qat": ours(), "pt2e_by_hand": by_hand()}
    places = {name: quantizers(model) for name, model in models.items()}
    assert places["int8_qat"] == places["pt2e_by_hand"], f"they do not round in the same places: {places}"
    steps = {name: make_step(model, options.batch) for name, model in models.items()}
    losses = {name: [step() for _ in range(WARM_UP)] for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(options.rounds):
        # Whoever goes first in a round goes last in the next, so that drift hits all alike.
        for name in list(steps)[:: 1 if round_ % 2 else -1]:
            began = time.perf_counter()
            losses[name].append(steps[name]())
            times[name].append((time.perf_counter() - began) * 1e3)
    ratio = {
        f"int8_qat_to_{other}": summary([a / b for a, b in zip(times["int8_qat"], times[other], strict=True)])
        for other in ("pt2e_by_hand", "float")
    }
    numbers = {
        "network": "resnet20, 32x32",
        "batch": options.batch,
        "fake_quantizers": places,
        "step_ms": {name: summary(values) for name, values in times.items()},
        "ratio": ratio,
        "first_and_last_loss": {name: [values[0], values[-1]] for name, values in losses.items()},
    }
    for name, found in ratio.items():
        print(f"{name} {found['median']:.3f} {found['interval_95']}")
    write_result("qat_step", numbers, threads=options.threads, seeds=[SEED])


if __name__ == "__main__":
    main()
