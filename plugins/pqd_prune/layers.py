"""Which weights can be pruned: by layer name, the same for a network of modules and for its traced graph."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.modules.conv import _ConvNd

from pqd_core import PqdError, Problem
from pqd_prune import MagnitudeSettings

A = torch.ops.aten
LAYER_OPERATORS = (A.conv1d, A.conv2d, A.conv3d, A.conv_transpose1d, A.conv_transpose2d, A.conv_transpose3d, A.linear)


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


def choose_layers(names: list[str], settings: MagnitudeSettings) -> list[str]:
    """Those of `names` that a glob of `include` fits and none of `exclude`.

    Raises:
        PqdError: a glob fits no layer at all, or nothing is left.
    """
    known = f"the layers are {', '.join(names)}"
    useless = [
        Problem(f"magnitude.{field}", f"{glob!r} fits no layer", known)
        for field in ("include", "exclude")
        for glob in getattr(settings, field)
        if not any(fnmatchcase(name, glob) for name in names)
    ]
    if useless:
        raise PqdError(*useless)
    chosen = [name for name in names if _fits(name, settings.include) and not _fits(name, settings.exclude)]
    if not chosen:
        raise PqdError(Problem("magnitude", "include and exclude leave no layer to prune", known))
    return chosen


def _fits(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
