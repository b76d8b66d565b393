"""What the stages that prune single weights share: the masks under the fact `sparse`, laid on and told of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pqd_core import StageContext

Weights = Mapping[str, Tensor]
"""Tensors by parameter name: weights, or their masks (True: kept)."""


def held_masks(context: StageContext) -> Weights:
    """The masks that hold so far, whichever stage left them."""
    return context.facts.get("sparse", {})


@torch.no_grad()
def lay_on(model: nn.Module, masks: Weights, context: StageContext) -> None:
    """The masked weights are zero, and `sparse` holds with these masks and those of other weights."""
    for name, mask in masks.items():
        model.get_parameter(name).masked_fill_(~mask.bool(), 0)
    context.give("sparse", {**held_masks(context), **masks})


def scores(weight: Tensor, held: Tensor | None) -> Tensor:
    """|w| as float32, in the weight's shape; -1 where a mask removes the weight already."""
    magnitudes = weight.detach().float().abs()
    return magnitudes if held is None else magnitudes.masked_fill(~held.to(magnitudes.device).bool(), -1)


def tell_shares(context: StageContext, names: Iterable[str]) -> None:
    """The log knows the share of zeros of each of these weights, and of all."""
    masks = {name: context.facts["sparse"][name] for name in names}
    zeros = {name: int((~mask).sum()) for name, mask in masks.items()}
    layers = {name.removesuffix(".weight"): round(zeros[name] / mask.numel(), 4) for name, mask in masks.items()}
    total = sum(mask.numel() for mask in masks.values())
    context.log.info("pruned", sparsity=round(sum(zeros.values()) / total, 6), weights=total, layers=layers)
