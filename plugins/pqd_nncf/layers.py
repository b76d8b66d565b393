"""Layers of a graph whose weights are rounded: their integers are stored, and a batch norm behind them goes into them.

The weight is rounded first and scaled then: one step per channel absorbs a batch norm's factor, so the integers stay
as they were trained, up to their sign (Krishnamoorthi 2018, arXiv:1806.08342).
"""

from __future__ import annotations

from typing import Any

import torch
from attrs import define
from torch import Tensor, nn
from torch.fx import GraphModule, Node

Q = torch.ops.quantized_decomposed
A = torch.ops.aten
FOLDING = frozenset({A.conv1d.default, A.conv1d.padding, A.conv2d.default, A.conv2d.padding, A.linear.default})
LARGEST_BIAS = 2**30
"""Runtimes add the bias as int32 in units of (input step * weight step); this leaves half of the range to the sums."""
SMALLEST_STEP = torch.finfo(torch.float32).tiny


@define
class Layer:
    """A layer on its way to be stored."""

    node: Any
    weight: Any
    """The dequantization that the layer reads."""
    integers: Tensor
    steps: Tensor
    axis: int
    bias: Tensor | None
    name: str
    """Of the weight, without `.weight`."""
    offset: str | None
    """What the bias is moved by: the parameter that is the layer's bias, or its batch norm's; None if there is none."""
    moved: Tensor | None = None
    """How far rounding has moved the bias."""


@torch.no_grad()
def store_layers(model: GraphModule) -> list[Layer]:
    """Each rounded weight is a stored int8 tensor, and each batch norm that such a layer can take up is gone.

    The layers are given back as they were stored.
    """
    weights = model.graph.find_nodes(op="call_function", target=Q.dequantize_per_channel.default)
    layers = [layer for weight in weights if (layer := _layer(model, weight))]  # all are read before one is written
    taken: set[str] = set()
    for layer in layers:
        if norm := _norm_behind(layer):
            _fold(model, layer, norm)
        _leave_room_for_bias(layer)
        _round_bias(layer)
        _store(model, layer, taken)
    model.recompile()
    return layers


def _layer(model: GraphModule, weight: Any) -> Layer | None:
    """The layer that alone reads this weight, if the weight is a stored tensor."""
    whole: Any = weight.args[0]
    source = whole.args[0]
    readers = list(weight.users)
    if not isinstance(source, Node) or source.op != "get_attr" or len(readers) != 1:
        return None
    steps, zeros = (_tensor(model, part) for part in whole.args[1:3])
    _, _, _, axis, low, high, dtype = whole.args
    integers = Q.quantize_per_channel(_tensor(model, source), steps, zeros, axis, low, high, dtype)
    [reader] = readers
    bias = reader.args[2] if reader.target in FOLDING and len(reader.args) > 2 else None
    name = str(source.target).removesuffix(".weight")
    stored = _tensor(model, bias) if isinstance(bias, Node) else None
    return Layer(reader, weight, integers, steps.clone(), int(axis), stored, name, _name(bias))


def _name(parameter: Any) -> str | None:
    return str(parameter.target) if isinstance(parameter, Node) else None


def _tensor(model: GraphModule, node: Any) -> Tensor:
    found: Any = model
    for part in str(node.target).split("."):
        found = getattr(found, part)
    assert isinstance(found, Tensor)
    return found.detach()


def _norm_behind(layer: Layer) -> Any:
    """The batch norm with statistics that alone reads what the layer gives, channel by channel."""
    users = list(layer.node.users)
    if layer.node.target not in FOLDING or layer.axis != 0 or len(users) != 1:
        return None
    norm = users[0]
    flat = layer.node.target is not A.linear.default or layer.node.meta["val"].dim() == 2
    return norm if flat and norm.target is A.batch_norm.default and isinstance(norm.args[3], Node) else None


def _fold(model: GraphModule, layer: Layer, norm: Any) -> None:
    """The layer gives what its batch norm gave."""
    scale, shift, mean, variance = (None if arg is None else _tensor(model, arg) for arg in norm.args[1:5])
    assert mean is not None
    assert variance is not None
    factor = torch.rsqrt(variance + norm.args[7]) * (1 if scale is None else scale)
    signs = torch.where(factor < 0, -1, 1).to(torch.int8)
    layer.integers = layer.integers * signs.view(-1, *[1] * (layer.integers.dim() - 1))
    layer.steps = layer.steps * factor.abs()
    offset = (0 if shift is None else shift) - mean * factor
    layer.bias = offset if layer.bias is None else offset + layer.bias * factor
    layer.offset = _name(norm.args[2])
    norm.replace_all_uses_with(layer.node)
    model.graph.erase_node(norm)


def _leave_room_for_bias(layer: Layer) -> None:
    """No step is so small that the bias would overflow 32 bits.

    That is the fate of channels that training has all but switched off: next to their bias the weights count for
    nothing, and they round to zero.
    """
    least = torch.full_like(layer.steps, SMALLEST_STEP)
    if layer.bias is not None and (step := _input_step(layer)):
        least = torch.maximum(least, layer.bias.abs() / (step * LARGEST_BIAS))
    share = (layer.steps / torch.maximum(layer.steps, least)).view(-1, *[1] * (layer.integers.dim() - 1))
    if (share < 1).any() and layer.axis == 0:
        layer.integers = (layer.integers * share).round().to(torch.int8)
    layer.steps = torch.maximum(layer.steps, least)


def _round_bias(layer: Layer) -> None:
    """The bias is a whole number of (input step * weight step), as which integer runtimes add it."""
    if layer.bias is not None and (step := _input_step(layer)):
        units = layer.steps.double() * step
        rounded = ((layer.bias.double() / units).round() * units).float()
        layer.bias, layer.moved = rounded, rounded - layer.bias


def _input_step(layer: Layer) -> float | None:
    """That of the grid on which a layer with a step for each of its outputs is fed."""
    source = layer.node.args[0]
    rounded = isinstance(source, Node) and source.target is Q.dequantize_per_tensor.default
    return float(source.args[1]) if rounded and layer.axis == 0 else None


def _store(model: GraphModule, layer: Layer, taken: set[str]) -> None:
    """The graph owns the integers under the weight's name, and reads them; a second reader's are its own."""
    owner = model.get_submodule(layer.name) if layer.name else model
    suffix = ""
    while layer.name + suffix in taken:
        suffix += "_"
    taken.add(layer.name + suffix)
    zeros = torch.zeros(len(layer.steps), dtype=torch.int64)
    stored = {f"weight{suffix}": layer.integers, f"steps{suffix}": layer.steps, f"zeros{suffix}": zeros}
    prefix = f"{layer.name}." if layer.name else ""
    graph = model.graph
    for name, tensor in stored.items():
        if not suffix:
            vars(owner)["_parameters"].pop(name, None)
        owner.register_buffer(name, tensor)
    with graph.inserting_before(layer.weight):
        reads = [graph.get_attr(prefix + name) for name in stored]
        new = graph.call_function(Q.dequantize_per_channel.default, (*reads, layer.axis, -128, 127, torch.int8))
    layer.weight.replace_all_uses_with(new)
    if layer.bias is not None:
        owner.register_parameter(f"bias{suffix}", nn.Parameter(layer.bias))
        with graph.inserting_before(layer.node):
            read = graph.get_attr(f"{prefix}bias{suffix}")
        layer.node.args = (*layer.node.args[:2], read, *layer.node.args[3:])
