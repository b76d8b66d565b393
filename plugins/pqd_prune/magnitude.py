"""Unstructured pruning by magnitude: the weights nearest to zero become zero, for good.

The masks are the evidence of the fact `sparse`. `fit` lays them on again after every optimizer step, in this stage and
in every later one. What an earlier `magnitude` has pruned stays pruned and counts towards this one's share.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pqd_core import StageContext, fit
from pqd_prune import MagnitudeSettings
from pqd_prune.layers import chosen_weights
from pqd_prune.masks import Weights, held_masks, lay_on, scores, tell_shares

Prune = Callable[[float], None]


def restructure(model: nn.Module, settings: MagnitudeSettings, context: StageContext) -> nn.Module:
    """Nothing changes: a pruned weight has the shape it had."""
    return model


def rehearse(model: nn.Module, settings: MagnitudeSettings, context: StageContext) -> None:
    """The globs fit layers.

    Raises:
        PqdError: a glob fits none of the network's layers, or no layer is left.
    """
    chosen_weights(model, settings, "magnitude")


def run(model: nn.Module, settings: MagnitudeSettings, context: StageContext) -> nn.Module:
    """`sparsity` of the chosen weights are zero, and the network is trained around them.

    Raises:
        PqdError: a glob fits none of the network's layers.
    """
    chosen = chosen_weights(model, settings, "magnitude")
    groups = [chosen] if settings.scope == "global" else [[name] for name in chosen]
    start = [_pruned_share(model, group, context) for group in groups]

    def prune(progress: float) -> None:
        for group, initial in zip(groups, start, strict=True):
            _prune_group(model, group, cubic_sparsity(progress, initial, settings.sparsity), context)

    if settings.schedule == "gradual" and context.epochs:
        fit(model, context, settings.training, on_step=[_prune_gradually(prune, settings)])
    else:
        prune(1.0)
        fit(model, context, settings.training)
    tell_shares(context, chosen)
    return model


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the weights themselves are zero."""
    return model


def cubic_sparsity(progress: float, initial: float, final: float) -> float:
    """The share of zeros at `progress` in [0, 1] of the pruning (Zhu and Gupta 2017, arXiv:1710.01878, equation 1).

    An earlier stage may have pruned more than is asked for now; then nothing comes back.
    """
    final = max(initial, final)
    return final + (initial - final) * (1 - progress) ** 3


def pruning_steps(total: int, settings: MagnitudeSettings) -> range:
    """The optimizer steps, of `total`, after which weights are pruned: t0, t0 + dt, ..., t0 + n dt in the paper."""
    first = int(settings.begin * total)
    span = max(1, int(settings.end * total) - first)
    interval = min(settings.interval, span)
    return range(first, first + span // interval * interval + 1, interval)


def _prune_gradually(prune: Prune, settings: MagnitudeSettings) -> Callable[[int, int], None]:
    """A callback of `fit` that prunes a little more at each of the pruning steps."""

    def prune_when_due(done: int, total: int) -> None:
        steps = pruning_steps(total, settings)
        if done in steps:
            prune(steps.index(done) / (len(steps) - 1))

    return prune_when_due


def _pruned_share(model: nn.Module, names: list[str], context: StageContext) -> float:
    masks = held_masks(context)
    total = sum(model.get_parameter(name).numel() for name in names)
    return sum(int((~masks[name].bool()).sum()) for name in names if name in masks) / total


def _prune_group(model: nn.Module, names: list[str], sparsity: float, context: StageContext) -> None:
    """Prune weights that are compared with one another, and state it."""
    weights = {name: model.get_parameter(name) for name in names}
    lay_on(model, keep_largest(weights, held_masks(context), sparsity), context)


def keep_largest(weights: Weights, held: Weights, sparsity: float) -> dict[str, Tensor]:
    """Masks (True: kept) that remove exactly round(sparsity * n) of the n weights, the smallest first.

    Weights that `held` masks already remove go first. Of equal weights the earlier goes first: names in the order of
    `weights`, then row by row. The largest weight of each tensor is kept, so that no layer goes silent.
    """
    ranks = torch.cat([_ranks(weight, held.get(name)) for name, weight in weights.items()])
    count = min(round(sparsity * len(ranks)), len(ranks) - len(weights))
    keep = torch.ones_like(ranks, dtype=torch.bool)
    if count:
        limit = ranks.kthvalue(count).values
        keep &= ranks >= limit
        missing = count - int((~keep).sum())
        keep[(ranks == limit).nonzero()[:missing]] = False
    parts = torch.split(keep, [weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def _ranks(weight: Tensor, held: Tensor | None) -> Tensor:
    """The scores in one row, infinite for the largest weight."""
    ranks = scores(weight, held).flatten()
    ranks[(ranks == ranks.max()).nonzero()[0]] = torch.inf
    return ranks
