"""What both stages share: from a network to a graph that simulates INT8, and from there to the graph to deploy."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

from pqd_core import PqdError, Problem, StageContext, choose_layers
from pqd_int8 import Int8Settings
from pqd_int8.bias import drop_roundings, fix_units, round_biases
from pqd_int8.fold import convolve_batch_norms, fold_batch_norms, quantize_moves
from pqd_int8.quantizer import Int8Quantizer, quantizable
from pqd_int8.streams import join_streams
from pqd_int8.target import WeightRange, choose_range
from pqd_int8.trace import trace

RANGE_MOMENTUM = 0.01


def simulate(
    model: nn.Module, settings: Int8Settings, context: StageContext, stage: str, momentum: float = RANGE_MOMENTUM
) -> GraphModule:
    """The model as a graph with fake quantizers, its parameters under their old names; in eval mode.

    The range that `weight_range: auto` found is left as evidence, so that the graph is rebuilt alike on another CPU.
    The content key holds `auto`, not what was found: name a range to ask for the same file on every machine.

    Raises:
        PqdError: the network cannot be traced, a glob fits none of its layers, or no layer is left.
    """
    weight_range = _settled_range(settings, context)
    graph = trace(model, context.example, stage)
    layers = chosen_layers(graph, settings, stage)
    quantizer = Int8Quantizer(weight_range, layers, settings.activations == "symmetric", momentum)
    prepared = prepare_qat_pt2e(graph, quantizer)
    if settings.residual_step == "shared":
        join_streams(prepared)
    round_biases(prepared)
    context.give("fake-quant", {"weight_range": torch.tensor([weight_range.low, weight_range.high])})
    return _switchable(prepared).eval()


def deployable(model: nn.Module) -> nn.Module:
    """The graph holds int8 weights and explicit quantize and dequantize operators; batch norms are folded in."""
    assert isinstance(model, GraphModule)
    drop_roundings(model)
    fold_batch_norms(model)
    convolve_batch_norms(model)
    fix_units(model)
    quantize_moves(model)
    return _switchable(convert_pt2e(model)).eval()


def chosen_layers(graph: GraphModule, settings: Int8Settings, stage: str) -> set[str]:
    """Names of the layers that become INT8.

    Raises:
        PqdError: a glob fits no layer, or none is left.
    """
    names = list(dict.fromkeys(name for _, name in quantizable(graph)))
    ends = {"first": names[:1], "last": names[-1:]}
    floats = {name for end in settings.keep_float for name in ends[end]}
    layers = set(choose_layers(names, settings.include, settings.exclude, stage)) - floats
    if not layers:
        what = f"keeps {' and '.join(sorted(floats))} float, and no other layer is included"
        raise PqdError(Problem(f"{stage}.keep_float", what, "include more layers, or leave the stage out"))
    return layers


def _settled_range(settings: Int8Settings, context: StageContext) -> WeightRange:
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
