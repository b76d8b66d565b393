"""Channels taken out of a network, and what has to follow: the masks of pruned weights, and a proof."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
import torch_pruning as tp
from torch import Tensor, nn

from pqd_channel.groups import LAYERS, WHERE, dependencies
from pqd_channel.narrow import CONVOLUTIONS
from pqd_core import PqdError, Problem

Removals = Mapping[str, Sequence[int]]
"""Output channels of a layer, by its name; whatever depends on them goes with them."""
TOLERANCE = 1e-3


def remove(model: nn.Module, graph: tp.DependencyGraph, removals: Removals, example: Tensor) -> None:
    """The channels are gone, and what is left answers as if they had been silent.

    Raises:
        PqdError: it does not: the network depends on its widths in a way that the graph has not seen.
    """
    images = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    expected = _answers(_silenced(model, graph, removals), images)
    try:
        _prune(model, graph, removals)
        found = _answers(model, images)
    except Exception as error:  # the network's own code runs
        raise _not_followed(model, f"it no longer runs ({type(error).__name__}: {error})") from error
    if found.shape != expected.shape or (found - expected).abs().max() > TOLERANCE * expected.abs().max():
        raise _not_followed(model, "it answers otherwise than the network in which these channels are silent")


def narrowed_masks(
    model: nn.Module, masks: Mapping[str, Tensor], removals: Removals, example: Tensor
) -> dict[str, Tensor]:
    """The masks (True: kept) of `model`'s weights after the removals, which have not been made in it yet.

    They ride through the same pruning, as the weights of a copy.
    """
    carrier = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in masks.items():
            carrier.get_parameter(name).copy_(mask)
    _prune(carrier, dependencies(carrier, example), removals)
    return {name: carrier.get_parameter(name).detach() != 0 for name in masks}


def _prune(model: nn.Module, graph: tp.DependencyGraph, removals: Removals) -> None:
    for root, channels in removals.items():
        _group(model, graph, root, channels).prune()


def _group(model: nn.Module, graph: tp.DependencyGraph, root: str, channels: Sequence[int]) -> tp.Group:
    layer = model.get_submodule(root)
    return graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, list(channels))


@torch.no_grad()
def _answers(model: nn.Module, images: Tensor) -> Tensor:
    answers: Tensor = model.eval()(images)
    return answers


@torch.no_grad()
def _silenced(model: nn.Module, graph: tp.DependencyGraph, removals: Removals) -> nn.Module:
    """A copy of `model` in which no layer listens to the channels."""
    copied, names = copy.deepcopy(model), {part: name for name, part in model.named_modules()}
    for root, channels in removals.items():
        for dep, idxs in _group(model, graph, root, channels):
            layer = dep.target.module
            depthwise = isinstance(layer, CONVOLUTIONS) and layer.groups > 1
            if isinstance(layer, LAYERS) and graph.is_in_channel_pruning_fn(dep.handler) and not depthwise:
                copied.get_parameter(f"{names[layer]}.weight")[:, list(idxs)] = 0
    return copied


def _not_followed(model: nn.Module, what: str) -> PqdError:
    hint = "exclude the layers around what reshapes or mixes channels, or use magnitude or n-m, which change no shape"
    return PqdError(Problem(WHERE, f"a {type(model).__name__} cannot be narrowed: without the channels {what}", hint))
