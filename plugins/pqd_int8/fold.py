"""The last changes to a trained graph before its fake quantizers become real ones. None changes what it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant
from pqd_int8.quantizer import LAYERS, MOVES, A, batch_norm_after, called, end_of_chain, origin
from pqd_int8.target import FULL

LARGEST_BIAS = 2**30
"""Runtimes add the bias as int32 in units of (input step * weight step); this leaves half of the range to the sums."""


def fold_batch_norms(model: GraphModule) -> None:
    """Each quantized layer computes what it and its batch norm did; its integers stay as they were, up to their sign.

    The weight is rounded first and scaled then: one step per channel absorbs the factor.
    """
    for node in _quantized_layers(model):
        norm = batch_norm_after(node, model)
        if norm is not None and _is_only_reader(node):
            _fold(model, node, called(norm, model))
            norm.replace_all_uses_with(node)
            model.graph.erase_node(norm)
    model.recompile()


def _quantized_layers(model: GraphModule) -> list[Node]:
    nodes = (node for node in model.graph.nodes if node.target in LAYERS)
    return [node for node in nodes if isinstance(called(node.args[1], model), WeightFakeQuant)]


def _is_only_reader(node: Node) -> bool:
    """A weight that several layers share cannot take up the batch norm of one of them."""
    return len(_rounded(node).users) == len(_rounded(node).all_input_nodes[0].users) == 1


def _rounded(node: Node) -> Node:
    rounded = node.args[1]
    assert isinstance(rounded, Node)
    return rounded


def _weight_name(node: Node) -> str:
    return str(_rounded(node).all_input_nodes[0].target)


def _bias(model: GraphModule, node: Node) -> Tensor | None:
    bias = node.args[2] if len(node.args) > 2 else None
    return model.get_parameter(str(bias.target)) if isinstance(bias, Node) else None


@torch.no_grad()
def _fold(model: GraphModule, node: Node, norm: nn.Module | None) -> None:
    assert isinstance(norm, _BatchNorm)
    factor, offset = affine_of(norm)
    name, rounded = _weight_name(node), called(_rounded(node), model)
    assert rounded is not None
    weight, bias = model.get_parameter(name), _bias(model, node)
    weight.copy_(rounded(weight) * factor.view(-1, *[1] * (weight.dim() - 1)))
    owner = model.get_submodule(name.rpartition(".")[0])
    owner.bias = nn.Parameter(offset if bias is None else offset + bias * factor)
    with model.graph.inserting_before(node):
        read = model.graph.get_attr(name.removesuffix("weight") + "bias")
    node.args = (*node.args[:2], read, *node.args[3:])


@torch.no_grad()
def affine_of(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Factor and offset of each channel, shape (channels,), that a batch norm in eval mode amounts to."""
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    factor = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    return factor, (0 if norm.bias is None else norm.bias) - norm.running_mean * factor


def convolve_batch_norms(model: GraphModule) -> None:
    """A batch norm between two grids, as before a convolution in pre-activation networks, is a depthwise convolution.

    Runtimes have integer kernels for that and none for batch norm. One weight per channel is exact on its own grid,
    and one product never saturates, so the full range serves every CPU.
    """
    for node in list(model.graph.nodes):
        norm = called(node, model)
        if isinstance(norm, nn.BatchNorm2d) and _is_between_grids(node, model):
            _convolve(model, node, norm)
    model.recompile()


def _is_between_grids(node: Node, model: GraphModule) -> bool:
    readers = end_of_chain(node, model).users
    return all(isinstance(called(other, model), ActivationFakeQuant) for other in (node.args[0], *readers))


def _convolve(model: GraphModule, node: Node, norm: nn.BatchNorm2d) -> None:
    factor, offset = affine_of(norm)
    layer = nn.Conv2d(len(factor), len(factor), 1, groups=len(factor))
    layer.weight, layer.bias = nn.Parameter(factor.view(-1, 1, 1, 1)), nn.Parameter(offset)
    name, graph = str(node.target), model.graph
    layer.add_module("rounded", WeightFakeQuant(FULL.low, FULL.high, torch.int8, torch.per_channel_symmetric))
    model.add_submodule(name, layer)
    with graph.inserting_before(node):
        weight = graph.call_module(f"{name}.rounded", (graph.get_attr(f"{name}.weight"),))
        args = (node.args[0], weight, graph.get_attr(f"{name}.bias"), [1, 1], [0, 0], [1, 1], len(factor))
        convolution = graph.call_function(A.conv2d.default, args)
    convolution.meta = dict(node.meta)
    node.replace_all_uses_with(convolution)
    graph.erase_node(node)


@torch.no_grad()
def fix_weight_steps(model: GraphModule) -> None:
    """Each weight quantizer knows the steps of its weight, none so small that the bias would overflow 32 bits.

    That is the fate of channels that training has all but switched off: next to their bias the weights count for
    nothing, and they round to zero.
    """
    for node in _quantized_layers(model):
        rounded, bias = called(_rounded(node), model), _bias(model, node)
        source = called(origin(node.args[0], model), model)
        assert isinstance(rounded, WeightFakeQuant)
        rounded.steps = rounded.steps_of(model.get_parameter(_weight_name(node)))
        if bias is not None and isinstance(source, ActivationFakeQuant):
            rounded.steps = torch.maximum(rounded.steps, bias.abs() / (source.scale * LARGEST_BIAS))


def quantize_moves(model: GraphModule) -> None:
    """What an operator moves from one grid is on the same grid behind it; runtimes want to be told."""
    for node in list(model.graph.nodes):
        if node.target in MOVES and isinstance(called(node.args[0], model), ActivationFakeQuant):
            with model.graph.inserting_after(node):
                same = model.graph.call_module(node.args[0].target, (node,))
            same.meta = dict(node.meta)
            node.replace_all_uses_with(same, delete_user_cb=lambda user, same=same: user is not same)
    model.recompile()
