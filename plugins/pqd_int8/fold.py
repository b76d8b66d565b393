"""The last changes to a trained graph before its fake quantizers become real ones. None changes what it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant
from pqd_int8.quantizer import LAYERS, MOVES, A, batch_norm_after, called, end_of_chain
from pqd_int8.target import FULL


def fold_batch_norms(model: GraphModule) -> None:
    """Each quantized layer computes what it and its batch norm did; its integers stay as they were, up to their sign.

    The weight is rounded first and scaled then: one step per channel absorbs the factor.
    """
    for node in quantized_layers(model):
        norm = batch_norm_after(node, model)
        if norm is not None and is_only_reader(node):
            _fold(model, node, called(norm, model))
            norm.replace_all_uses_with(node)
            model.graph.erase_node(norm)
    model.recompile()


def quantized_layers(model: GraphModule) -> list[Node]:
    """The convolutions and linear layers whose weight becomes INT8."""
    nodes = (node for node in model.graph.nodes if node.target in LAYERS)
    return [node for node in nodes if isinstance(called(node.args[1], model), WeightFakeQuant)]


def is_only_reader(node: Node) -> bool:
    """Whether the layer has its weight for itself; one that several share cannot take up the batch norm of one."""
    return len(read_weight(node).users) == len(read_weight(node).all_input_nodes[0].users) == 1


def read_weight(node: Node) -> Node:
    """Where a quantized layer's weight is rounded."""
    rounded = node.args[1]
    assert isinstance(rounded, Node)
    return rounded


def weight_name(node: Node) -> str:
    """The name of a quantized layer's weight."""
    return str(read_weight(node).all_input_nodes[0].target)


def bias_of(model: GraphModule, node: Node) -> Tensor | None:
    """A layer's bias, if it has one."""
    bias = node.args[2] if len(node.args) > 2 else None
    return model.get_parameter(str(bias.target)) if isinstance(bias, Node) else None


@torch.no_grad()
def _fold(model: GraphModule, node: Node, norm: nn.Module | None) -> None:
    assert isinstance(norm, _BatchNorm)
    factor, offset = affine_of(norm)
    name, rounded = weight_name(node), called(read_weight(node), model)
    assert rounded is not None
    weight, bias = model.get_parameter(name), bias_of(model, node)
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
        if isinstance(norm, nn.BatchNorm2d) and is_between_grids(node, model):
            _convolve(model, node, norm)
    model.recompile()


def is_between_grids(node: Node, model: GraphModule) -> bool:
    """Whether a batch norm reads a quantized value, and only quantizers read what it and its ReLU compute."""
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


def quantize_moves(model: GraphModule) -> None:
    """What an operator moves from one grid is on the same grid behind it; runtimes want to be told."""
    for node in list(model.graph.nodes):
        if node.target in MOVES and isinstance(called(node.args[0], model), ActivationFakeQuant):
            with model.graph.inserting_after(node):
                same = model.graph.call_module(node.args[0].target, (node,))
            same.meta = dict(node.meta)
            node.replace_all_uses_with(same, delete_user_cb=lambda user, same=same: user is not same)
    model.recompile()
