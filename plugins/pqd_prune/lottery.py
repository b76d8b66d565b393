"""Iterative magnitude pruning with rewinding: prune a little, go back, train again, and so on.

`rewind: weights` is the search for lottery tickets (Frankle and Carbin 2019, arXiv:1803.03635, section 1): after each
pruning the weights that are left go back to the values from which the baseline's training started, and are trained
again. With `rewind_epochs` they go back to an early point of training instead, as large networks need (Renda, Frankle
and Carbin 2020, arXiv:2003.02389, section 2, "weight rewinding"). The baseline's own early weights are not kept
anywhere, so this stage trains the untrained network for that many epochs of its own to have them.

`rewind: learning-rate` is the form that Renda et al. recommend for its results (section 6): the weights stay, and only
the learning rate goes back to its peak.

The first pruning looks at the network as it arrives, trained by the steps before. The masks are the evidence of the
fact `sparse`, as `magnitude` leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import evolve
from torch import Tensor, nn

from pqd_core import PqdError, Problem, StageContext, fit
from pqd_prune import LotterySettings
from pqd_prune.layers import chosen_weights
from pqd_prune.magnitude import keep_largest
from pqd_prune.masks import held_masks, lay_on, tell_shares

Point = Mapping[str, Tensor]
"""Parameters and buffers by name, to which training goes back."""


def restructure(model: nn.Module, settings: LotterySettings, context: StageContext) -> nn.Module:
    """Nothing changes: a pruned weight has the shape it had."""
    return model


def rehearse(model: nn.Module, settings: LotterySettings, context: StageContext) -> None:
    """The globs fit layers, and there is a point to rewind to.

    Raises:
        PqdError: as by `run`.
    """
    chosen_weights(model, settings, "lottery")
    if settings.rewind == "weights":
        _untrained(model, settings, context)


def run(model: nn.Module, settings: LotterySettings, context: StageContext) -> nn.Module:
    """`sparsity` of the chosen weights are zero, and the others were trained from the point of rewinding.

    Raises:
        PqdError: a glob fits none of the layers, the epochs do not suffice, or the network is no longer shaped like
            the untrained one.
    """
    names = chosen_weights(model, settings, "lottery")
    point, left = find_point(model, settings, context)
    rounds = share_epochs(left, settings.rounds)
    for number, epochs in enumerate(rounds, 1):
        _prune(model, names, settings, 1 - (1 - settings.sparsity) ** (number / len(rounds)), context)
        if epochs:
            rewind(model, point)
            lay_on(model, held_masks(context), context)
        fit(model, evolve(context, epochs=epochs), settings.training)
    tell_shares(context, names)
    return model


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the weights themselves are zero."""
    return model


def share_epochs(epochs: int, rounds: int) -> list[int]:
    """Whole epochs for each round, the last ones the longer; no more rounds than epochs, and at least one."""
    rounds = max(1, min(rounds, epochs))
    return [epochs * (number + 1) // rounds - epochs * number // rounds for number in range(rounds)]


def find_point(model: nn.Module, settings: LotterySettings, context: StageContext) -> tuple[Point, int]:
    """The point to rewind to, nothing where weights stay, and the epochs that are left when it is found.

    Raises:
        PqdError: all epochs would go into it, or the network is no longer shaped like the untrained one.
    """
    if settings.rewind == "learning-rate":
        return {}, context.epochs
    early, initial = settings.rewind_epochs, _untrained(model, settings, context)
    if early:
        fit(initial, evolve(context, epochs=early, facts={}), settings.training)
    return {name: tensor.clone() for name, tensor in initial.state_dict().items()}, context.epochs - early


def _untrained(model: nn.Module, settings: LotterySettings, context: StageContext) -> nn.Module:
    """The network that the baseline's training started from, to which this one can go back."""
    if settings.rewind_epochs and settings.rewind_epochs >= context.epochs:
        what = f"{settings.rewind_epochs} epochs of early training leave nothing of the stage's {context.epochs}"
        raise PqdError(Problem("lottery.rewind_epochs", what, "lower it, or give the stage more epochs"))
    initial = context.initial()
    _check_shapes(model, initial)
    return initial


def _check_shapes(model: nn.Module, initial: nn.Module) -> None:
    known = {name: p.shape for name, p in initial.named_parameters()}
    if odd := [name for name, p in model.named_parameters() if known.get(name) != p.shape]:
        what = f"{odd[0]} is not what it was before training, so it cannot go back (and {len(odd) - 1} more)"
        hint = "put lottery before the stage that changed the shapes, or write rewind: learning-rate"
        raise PqdError(Problem("lottery.rewind", what, hint))


@torch.no_grad()
def rewind(model: nn.Module, point: Point) -> None:
    """Every parameter and buffer that the point knows has its value there; ranges of quantizers stay."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in point:
            tensor.copy_(point[name])


def _prune(
    model: nn.Module, names: list[str], settings: LotterySettings, sparsity: float, context: StageContext
) -> None:
    for group in [names] if settings.scope == "global" else [[name] for name in names]:
        weights = {name: model.get_parameter(name) for name in group}
        lay_on(model, keep_largest(weights, held_masks(context), sparsity), context)
