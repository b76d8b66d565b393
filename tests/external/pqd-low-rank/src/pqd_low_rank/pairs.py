"""The arithmetic: a convolution as a pair of thin ones, and how to see that there are such pairs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def rank_of(layer: nn.Conv2d, share: float) -> int:
    """The rank to keep, from the layer's shape alone."""
    full = min(layer.out_channels, layer.weight[0].numel())
    return max(1, round(share * full))


def saves(layer: nn.Conv2d, rank: int) -> bool:
    """Whether the pair has fewer weights than the layer."""
    return rank * (layer.weight[0].numel() + layer.out_channels) < layer.weight.numel()


@torch.no_grad()
def factorized(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    """The best pair of that rank: the layer's kernel onto `rank` channels, then 1x1 onto its own."""
    u, s, v = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    thin = nn.Conv2d(
        layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=False
    )
    wide = nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None)
    root = s[:rank].sqrt()
    thin.weight.copy_((root[:, None] * v[:rank]).reshape(thin.weight.shape))
    wide.weight.copy_((u[:, :rank] * root)[:, :, None, None])
    if layer.bias is not None and wide.bias is not None:
        wide.bias.copy_(layer.bias)
    return nn.Sequential(thin, wide)


def probe(model: nn.Module, ranks: Mapping[str, Tensor]) -> list[str]:
    """Each pair is there, under the names of its parameters, with the rank that was noted."""
    if not ranks:
        return ["no rank was left as evidence"]
    shapes = {name: p.shape for name, p in model.named_parameters()}
    problems = []
    for layer, rank in ranks.items():
        thin, wide = shapes.get(f"{layer}.0.weight"), shapes.get(f"{layer}.1.weight")
        if thin is None or wide is None:
            problems.append(f"{layer} is no pair")
        elif not thin[0] == wide[1] == int(rank):
            problems.append(f"{layer} has rank {thin[0]}, not {int(rank)}")
    return problems
