"""Quantization-aware training for INT8 runtimes (Jacob et al. 2018, arXiv:1712.05877), on torchao's PT2E route.

The network is traced, fake quantizers are put where an integer runtime will round, and it is trained on. Parameters
keep their names, so a mask that an earlier or later stage laid on a weight finds it.

In train mode ranges and batch-norm statistics follow the data, in eval mode they stand still. They are settled late in
this stage, so that the last steps train exactly the network that will be deployed. A later stage starts them again by
calling `train()`, as it must: pruning or a teacher's influence moves the activations away from the ranges found here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

from pqd_core import StageContext, choose_layers, eval_batches, fit, take
from pqd_int8 import Int8QatSettings
from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant
from pqd_int8.fold import convolve_batch_norms, fix_weight_steps, fold_batch_norms, quantize_moves
from pqd_int8.quantizer import Int8Quantizer, quantizable
from pqd_int8.target import WeightRange, choose_range
from pqd_int8.trace import trace

CALIBRATION_BATCH = 64


def restructure(model: nn.Module, settings: Int8QatSettings, context: StageContext) -> nn.Module:
    """The model is a graph with fake quantizers, its parameters under their old names.

    The range that `weight_range: auto` found is left as evidence, so that the graph is rebuilt alike on another CPU.
    The content key holds `auto`, not what was found: name a range to ask for the same file on every machine.

    Raises:
        PqdError: the network cannot be traced, or a glob fits none of its layers.
    """
    weight_range = _settled_range(settings, context)
    graph = trace(model, context.example)
    names = [name for _, name in quantizable(graph)]
    layers = set(choose_layers(names, settings.include, settings.exclude, "int8-qat"))
    prepared = prepare_qat_pt2e(graph, Int8Quantizer(weight_range, settings.range_momentum, layers))
    context.give("fake-quant", {"weight_range": torch.tensor([weight_range.low, weight_range.high])})
    return _switchable(prepared).eval()


def run(model: nn.Module, settings: Int8QatSettings, context: StageContext) -> nn.Module:
    """Ranges are set from training images, then the network is trained; no epochs: post-training quantization."""
    calibrate(model, settings, context)
    return fit(model, context, settings.training, on_step=[settle_late(model, settings.freeze_at)])


def freeze(model: nn.Module) -> nn.Module:
    """The graph holds int8 weights and explicit quantize and dequantize operators; batch norms are folded in."""
    assert isinstance(model, GraphModule)
    fold_batch_norms(model)
    convolve_batch_norms(model)
    fix_weight_steps(model)
    quantize_moves(model)
    return _switchable(convert_pt2e(model)).eval()


def _settled_range(settings: Int8QatSettings, context: StageContext) -> WeightRange:
    evidence = context.facts.get("fake-quant", {}).get("weight_range")
    if evidence is not None:
        low, high = (int(end) for end in evidence)
        return WeightRange(low, high)
    chosen = choose_range(settings.weight_range)
    context.log.info("weights will be int8", lowest=chosen.low, highest=chosen.high, asked=settings.weight_range)
    return chosen


def _switchable(graph: GraphModule) -> GraphModule:
    """`graph` with a working `train` and `eval`, which torchao blocks because they mean nothing to its own graphs."""
    for name in ("train", "eval"):
        graph.__dict__.pop(name, None)
    return graph


@torch.no_grad()
def calibrate(model: nn.Module, settings: Int8QatSettings, context: StageContext) -> None:
    """Every activation's range is the mean, over batches of training images, of the batch's minimum and maximum.

    The images pass unrounded, so that no layer's range depends on how the layers before it were rounded.
    """
    split = context.data.train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(context.seed))
    images = take(split, order[: settings.calibration_images].numpy())
    model.eval().to(context.device)
    rounded = [part for part in model.modules() if isinstance(part, ActivationFakeQuant | WeightFakeQuant)]
    observers = [part.train() for part in rounded if isinstance(part, ActivationFakeQuant)]
    for part in rounded:
        part.disable_fake_quant()
    for seen, batch in enumerate(eval_batches(images, context.info, CALIBRATION_BATCH)):
        for observer in observers:
            observer.activation_post_process.averaging_constant = 1 / (seen + 1)
        model(batch.inputs.to(context.device))
    for observer in observers:
        observer.activation_post_process.averaging_constant = settings.range_momentum
    for part in rounded:
        part.eval().enable_fake_quant()


def settle_late(model: nn.Module, share: float) -> Callable[[int, int], None]:
    """A callback of `fit` that stops ranges and batch-norm statistics once `share` of the steps are done."""

    def settle(done: int, total: int) -> None:
        if done == max(1, math.ceil(share * total)):
            for part in model.modules():
                if isinstance(part, ActivationFakeQuant | _BatchNorm):
                    part.eval()

    return settle
