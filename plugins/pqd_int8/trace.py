"""From a network of modules to a graph of operators that can still be trained.

`torch.export` freezes whatever depends on the mode: batch norm, dropout, and every branch on `self.training`. The
network is therefore exported in eval mode (one output, no stochastic depth), and its batch norms and dropouts are put
back as the modules they were. `train()`, `eval()`, `copy.deepcopy` and the names in the state dict then mean what they
mean for any module, and each batch norm keeps its own `eps` and momentum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_core import PqdError, Problem

A = torch.ops.aten
DROPOUTS = {A.dropout.default: nn.Dropout, A.dropout_.default: nn.Dropout, A.feature_dropout.default: nn.Dropout2d}


def trace(model: nn.Module, example: Tensor, stage: str) -> GraphModule:
    """The graph of `model` for any batch size; parameters and buffers are the model's own, under their own names.

    Raises:
        PqdError: the network cannot be exported, or only for one batch size.
    """
    batch = torch.export.Dim.DYNAMIC
    try:
        program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # export raises whatever the network's own code raises under tracing
        raise PqdError(_untraceable(model, stage, error)) from error
    graph = program.module(check_guards=False)
    assert isinstance(graph, GraphModule)
    revive_batch_norms(graph, model)
    revive_dropouts(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _untraceable(model: nn.Module, stage: str, error: Exception) -> Problem:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return Problem(
        f"{stage}: {type(model).__name__}",
        f"torch.export cannot trace this network for a free batch size: {reason}",
        "its forward must not branch on the values of tensors or rely on one batch size",
    )


def revive_batch_norms(graph: GraphModule, model: nn.Module) -> None:
    """Call the model's batch-norm modules where the graph calls the operator with their statistics."""
    for node in graph.graph.find_nodes(op="call_function", target=A.batch_norm.default):
        statistics = node.args[3]
        if not isinstance(statistics, Node):
            continue  # without running statistics there is no mode to switch
        name = str(statistics.target).rpartition(".")[0]
        module = model.get_submodule(name)
        if isinstance(module, _BatchNorm):
            _call_module(graph, node, name, module)


def revive_dropouts(graph: GraphModule) -> None:
    """Call a dropout module wherever the graph holds a dropout that eval mode has switched off."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in DROPOUTS and not node.args[2]:
            _call_module(graph, node, f"_{node.name}", DROPOUTS[node.target](node.args[1]))


def _call_module(graph: GraphModule, node: Node, name: str, module: nn.Module) -> None:
    """Replace `node` by a call of `module` on its first argument."""
    graph.add_submodule(name, module)
    with graph.graph.inserting_before(node):
        call = graph.graph.call_module(name, (node.args[0],))
    call.meta = node.meta
    node.replace_all_uses_with(call)
    graph.graph.erase_node(node)
