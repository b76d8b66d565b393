"""Which channels hang together: Torch-Pruning's dependency graph (Fang et al. 2023, arXiv:2301.12900, section 3).

A channel that leaves a residual sum has to leave every layer that adds to it and every layer that reads it. The graph
finds these groups; here they are asked what they are worth and what work they save.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
import torch_pruning as tp
from attrs import frozen
from torch import Tensor, nn
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency.index_mapping import update_index_mapping

from pqd_channel.narrow import CONVOLUTIONS, RESIZABLE
from pqd_core import PqdError, Problem

LAYERS = (*CONVOLUTIONS, nn.Linear)
WHERE = "channel"
MOST = 20_000
"""As many numbers may one channel become where an image is flattened."""


@frozen(eq=False)
class Group:
    """Channels that may go one by one, each from all layers at once."""

    root: str
    """The layer whose output channels give them their numbers."""
    channels: int
    cuts: Mapping[tuple[str, str], float]
    """Of a layer's `out` or `in` channels, how many go with one of these."""
    found: Any
    """As Torch-Pruning holds it."""


def dependencies(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    """The graph of what depends on what in `model`.

    Raises:
        PqdError: the network cannot be followed.
    """
    model.eval()
    try:
        graph = tp.DependencyGraph().build_dependency(model, example, verbose=False)
        _check_views(graph)
        return graph
    except Exception as error:  # the network's own code runs, and the library meets shapes it does not know
        what = f"what depends on what in a {type(model).__name__} cannot be found ({type(error).__name__}: {error})"
        raise PqdError(Problem(WHERE, what, "this network needs magnitude or n-m, which change no shape")) from error


def _check_views(graph: tp.DependencyGraph) -> None:
    """One channel is followed from each layer through all that depends on it, as Torch-Pruning would follow them all.

    Raises:
        ValueError: it becomes ever more of them. Torch-Pruning takes a view that splits places as if it split
            channels; windows of attention are cut out by many such views, and its search would not end.
    """
    update_index_mapping(graph)
    for layer in [part for part in graph.module2node if isinstance(part, LAYERS)]:
        start = (graph.module2node[layer], graph.get_pruner_of_module(layer).prune_out_channels, (_HybridIndex(0, 0),))
        waiting, seen = [start], {start}
        while waiting:
            node, handler, channels = waiting.pop()
            for dep in filter(lambda dep: dep.is_triggered_by(handler), node.dependencies):
                there = dep.target, dep.handler, _mapped(dep, channels)
                if there[-1] and there not in seen:
                    seen.add(there)
                    waiting.append(there)


def _mapped(dep: Any, channels: tuple[Any, ...]) -> tuple[Any, ...]:
    for mapping in filter(None, dep.index_mapping):
        channels = tuple(mapping(channels))
        if len(channels) > MOST:
            raise ValueError(f"by its views one channel becomes more than {MOST:,}")
    return channels


def prunable_groups(
    graph: tp.DependencyGraph, model: nn.Module, allowed: Collection[str]
) -> tuple[list[Group], dict[str, str]]:
    """The groups whose channels may go, and for each other one, by its root, why it stays whole."""
    names = {part: name for name, part in model.named_modules()}
    prunable, whole = [], {}
    for found in graph.get_all_groups():
        root = names[found[0].dep.target.module]
        if why := next(_objections(graph, found, names, allowed), None):
            whole[root] = why
        else:
            prunable.append(Group(root, len(found[0].idxs), dict(_cuts(graph, found, names)), found))
    return prunable, whole


def _objections(
    graph: tp.DependencyGraph, found: Any, names: Mapping[nn.Module, str], allowed: Collection[str]
) -> Iterator[str]:
    for dep, _ in found:
        node, part = dep.target, dep.target.module
        gives = graph.is_out_channel_pruning_fn(dep.handler)
        if gives and not node.outputs:
            yield "the network answers with it"
        if isinstance(part, nn.Parameter):
            yield "a parameter outside of any layer has its width"
        if part not in names:
            continue  # an operation without weights
        if not isinstance(part, RESIZABLE):
            yield f"{names[part]} is a {type(part).__name__}, which is not narrowed here"
        if isinstance(part, CONVOLUTIONS) and 1 < part.groups < part.out_channels:
            yield f"{names[part]} is a convolution in {part.groups} groups"
        if gives and isinstance(part, LAYERS) and names[part] not in allowed:
            yield f"{names[part]} is left out by include and exclude"


def _cuts(
    graph: tp.DependencyGraph, found: Any, names: Mapping[nn.Module, str]
) -> Iterator[tuple[tuple[str, str], float]]:
    channels = len(found[0].idxs)
    for dep, idxs in found:
        if isinstance(dep.target.module, LAYERS):
            side = "out" if graph.is_out_channel_pruning_fn(dep.handler) else "in"
            yield (names[dep.target.module], side), len(idxs) / channels


def worth(groups: list[Group], importance: str) -> list[Tensor]:
    """For each group the worth of its channels, (channels,), 1 on average; `taylor` wants gradients to be there."""
    taylor = tp.importance.GroupTaylorImportance()
    scorer = taylor if importance == "taylor" else tp.importance.GroupMagnitudeImportance(p=int(importance[1]))
    return [torch.nan_to_num(scorer(group.found).detach().float().cpu(), nan=1.0) for group in groups]
