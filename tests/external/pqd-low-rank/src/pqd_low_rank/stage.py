"""Low-rank factorization of convolutions (Zhang et al. 2015, arXiv:1505.06798, without its activation-aware part)."""

from __future__ import annotations

import torch
from torch import nn

from pqd_core import PqdError, Problem, StageContext, choose_layers, fit
from pqd_low_rank import LOW_RANK, LowRankSettings
from pqd_low_rank.pairs import factorized, rank_of, saves


def restructure(model: nn.Module, settings: LowRankSettings, context: StageContext) -> nn.Module:
    """Each chosen convolution that gets smaller by it is a pair; which ones do depends on shapes alone.

    Raises:
        PqdError: no convolution would get smaller.
    """
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d) and part.groups == 1}
    chosen = choose_layers(sorted(layers), settings.include, settings.exclude, "low-rank")
    ranks = {name: rank_of(layers[name], settings.rank) for name in chosen}
    ranks = {name: rank for name, rank in ranks.items() if saves(layers[name], rank)}
    if not ranks:
        what = f"no convolution gets smaller at {settings.rank:g} of its full rank"
        raise PqdError(Problem("low-rank.rank", what, "choose a smaller rank, or other layers"))
    for name, rank in ranks.items():
        model.set_submodule(name, factorized(layers[name], rank))
    context.give(LOW_RANK.name, {name: torch.tensor(rank) for name, rank in ranks.items()})
    return model


def run(model: nn.Module, settings: LowRankSettings, context: StageContext) -> nn.Module:
    """The pairs are trained."""
    return fit(model, context, settings.training)


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the pairs are deployed as they are."""
    return model
