"""From a network with NNCF's quantizers to a graph with int8 weights and explicit quantize and dequantize operators.

The same form as every other quantizing stage gives, so each runtime that takes one takes the other. Nothing changes
what is computed, but for the order of sums and the rounding of biases, which `round_biases` puts ahead.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib  # noqa: F401 - registers the operators
from torch.fx import GraphModule, Node

from pqd_core import FakeQuantizer, PqdError, Problem
from pqd_nncf import HERE
from pqd_nncf.layers import Layer, store_layers

Q = torch.ops.quantized_decomposed
A = torch.ops.aten
DROPOUTS = frozenset({A.dropout.default, A.feature_dropout.default})
MOVES = frozenset(
    {
        A.max_pool1d.default,
        A.max_pool2d.default,
        A.flatten.using_ints,
        A.view.default,
        A.reshape.default,
        A.permute.default,
        A.transpose.int,
        A.squeeze.dim,
        A.unsqueeze.default,
    }
)
"""Operators that pass values on; runtimes want to be told that these are on the same grid behind them."""


class OnTensorGrid(nn.Module):
    """Rounds an activation to 256 levels, one step for all of it."""

    def __init__(self, step: float, zero: int, levels: int) -> None:
        super().__init__()
        self.grid = (step, zero, 0, levels - 1, torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        """`x` on the grid."""
        rounded: Tensor = Q.dequantize_per_tensor(Q.quantize_per_tensor(x, *self.grid), *self.grid)
        return rounded


class OnChannelGrid(nn.Module):
    """Rounds a weight to integers, one step for each channel of an axis."""

    steps: Tensor
    zeros: Tensor

    def __init__(self, steps: Tensor, axis: int, low: int, high: int) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.register_buffer("zeros", torch.zeros(len(steps), dtype=torch.int64))
        self.grid = (axis, low, high, torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """`x` on the grid."""
        whole = Q.quantize_per_channel(x, self.steps, self.zeros, *self.grid)
        rounded: Tensor = Q.dequantize_per_channel(whole, self.steps, self.zeros, *self.grid)
        return rounded


def integer_graph(model: nn.Module, example: Tensor) -> GraphModule:
    """The graph of `model`, in eval mode: int8 weights, batch norms folded in, uint8 activations, whole biases.

    Raises:
        PqdError: the network cannot be traced for a free batch size.
    """
    graph, _ = _in_integers(model, example)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


@torch.no_grad()
def round_biases(model: nn.Module, example: Tensor) -> None:
    """The biases of layers, or of their batch norms, are such that the graph of integers will find them whole.

    Integer runtimes round them, which moves every output of a channel alike; so the network that was trained answers
    like its file. A parameter that several layers share stays as it is: it would have several units.
    """
    _, layers = _in_integers(copy.deepcopy(model).cpu(), example.cpu())
    shared = Counter(layer.offset for layer in layers)
    for layer in layers:
        if layer.offset is not None and layer.moved is not None and shared[layer.offset] == 1:
            offset = model.get_parameter(layer.offset)
            offset.add_(layer.moved.to(offset.device))


def _in_integers(model: nn.Module, example: Tensor) -> tuple[GraphModule, list[Layer]]:
    for name, part in list(model.named_modules()):
        if isinstance(part, FakeQuantizer):
            model.set_submodule(name, on_grid(part))
    graph = _traced(model.eval(), example)
    drop_dropouts(graph)
    quantize_moves(graph)
    return graph, store_layers(graph)


@torch.no_grad()
def on_grid(quantizer: Any) -> nn.Module:
    """What rounds as one of NNCF's quantizers does, in operators that are exported."""
    low, high = quantizer.get_input_low_input_high()
    levels = quantizer.level_high - quantizer.level_low + 1
    steps = ((high - low) / (levels - 1)).flatten()
    zeros = (-low.flatten() / steps).round()
    if quantizer.per_channel:
        axis = max(range(len(quantizer.scale_shape)), key=lambda dim: quantizer.scale_shape[dim])
        return OnChannelGrid(steps, axis, quantizer.level_low, quantizer.level_high)
    return OnTensorGrid(steps.item(), int(zeros.item()), levels)


def _traced(model: nn.Module, example: Tensor) -> GraphModule:
    batch = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad():
            program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:  # export raises whatever the network's own code raises under tracing
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        what = f"torch.export cannot trace this network for a free batch size: {reason}"
        raise PqdError(Problem(HERE, what, "its forward must not branch on the values of tensors")) from error
    graph = program.module(check_guards=False)
    assert isinstance(graph, GraphModule)
    for name in ("train", "eval"):  # which torch.export blocks, as they would mean nothing to its graph
        graph.__dict__.pop(name, None)
    return graph.eval()


def drop_dropouts(model: GraphModule) -> None:
    """In eval mode they do nothing, but stand between a layer and its grid."""
    for node in list(model.graph.nodes):
        if node.target in DROPOUTS:
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)


def quantize_moves(model: GraphModule) -> None:
    """What an operator moves from a grid is on the same grid behind it."""
    for node in list(model.graph.nodes):
        source = node.args[0] if node.target in MOVES else None
        if isinstance(source, Node) and source.target is Q.dequantize_per_tensor.default:
            with model.graph.inserting_after(node):
                whole = model.graph.call_function(Q.quantize_per_tensor.default, (node, *source.args[1:]))
            with model.graph.inserting_after(whole):
                same = model.graph.call_function(Q.dequantize_per_tensor.default, (whole, *source.args[1:]))
            node.replace_all_uses_with(same, delete_user_cb=lambda user, whole=whole: user is not whole)
