"""Which weights can be pruned: by layer name, the same for a network of modules and for its traced graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.modules.conv import _ConvNd

from pqd_core import choose_layers
from pqd_prune import Pruning

A = torch.ops.aten
LAYER_OPERATORS = (A.conv1d, A.conv2d, A.conv3d, A.conv_transpose1d, A.conv_transpose2d, A.conv_transpose3d, A.linear)


def chosen_weights(model: nn.Module, settings: Pruning, stage: str) -> list[str]:
    """Names of the weights of the layers that `include` and `exclude` choose.

    Raises:
        PqdError: a glob fits none of the network's layers, or no layer is left.
    """
    by_layer = weight_names(model)
    return [by_layer[layer] for layer in choose_layers(sorted(by_layer), settings.include, settings.exclude, stage)]


def weight_names(model: nn.Module) -> dict[str, str]:
    """The parameter name of the weight of each convolution and linear layer, by layer name."""
    names = _names_in_graph(model) if isinstance(model, GraphModule) else _names_in_modules(model)
    parameters = dict(model.named_parameters())
    return {name.removesuffix(".weight"): name for name in names if name in parameters}


def _names_in_modules(model: nn.Module) -> list[str]:
    return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, _ConvNd | nn.Linear)]


def _names_in_graph(model: GraphModule) -> list[str]:
    operators = (node for node in model.graph.nodes if getattr(node.target, "overloadpacket", None) in LAYER_OPERATORS)
    sources = (_source(node.args[1]) for node in operators)
    return [str(source.target) for source in sources if source.op == "get_attr"]


def _source(node: Node) -> Node:
    """Where a weight comes from, before the modules that it passes through (fake quantizers, say)."""
    while node.op == "call_module":
        node = node.all_input_nodes[0]
    return node
