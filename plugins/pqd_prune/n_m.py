"""N:M semi-structured pruning: of every M weights that follow one another along the input channels, N stay.

2:4 is the pattern of NVIDIA's sparse tensor cores (Mishra et al. 2021, arXiv:2104.08378, section 3), whose recipe is
to prune a trained network by magnitude at once and to train it again (section 4): `one-shot`. `gradual` takes one
weight of each group more at a time, in the spirit of decaying the structure (Kao et al. 2022, arXiv:2209.07617).

A layer whose input channels are no multiple of M (the first one, of images) is left whole, and the log says so. The
masks are the evidence of the fact `sparse`, as `magnitude` leaves it; what an earlier stage pruned stays pruned and
counts among the weights that go.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pqd_core import PqdError, Problem, StageContext, fit
from pqd_prune import NMSettings
from pqd_prune.layers import chosen_weights
from pqd_prune.masks import held_masks, lay_on, scores, tell_shares


def restructure(model: nn.Module, settings: NMSettings, context: StageContext) -> nn.Module:
    """Nothing changes: a pruned weight has the shape it had."""
    return model


def rehearse(model: nn.Module, settings: NMSettings, context: StageContext) -> None:
    """The globs fit layers; whether groups of `m` fit is not asked yet, as a stage before may still narrow them.

    Raises:
        PqdError: a glob fits none of the network's layers, or no layer is left.
    """
    chosen_weights(model, settings, "n-m")


def run(model: nn.Module, settings: NMSettings, context: StageContext) -> nn.Module:
    """At most `n` of every `m` weights of the chosen layers are other than zero, and the network is trained so.

    Raises:
        PqdError: a glob fits none of the network's layers, or none of them has groups of `m`.
    """
    names = grouped_weights(model, settings, context)

    def prune(kept: int) -> None:
        weights, held = {name: model.get_parameter(name) for name in names}, held_masks(context)
        lay_on(model, {name: keep(w, held.get(name), kept, settings.m) for name, w in weights.items()}, context)

    if settings.schedule == "gradual" and context.epochs:
        fit(model, context, settings.training, on_step=[_prune_gradually(prune, settings)])
    else:
        prune(settings.n)
        fit(model, context, settings.training)
    tell_shares(context, names)
    return model


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the weights themselves are zero."""
    return model


def grouped_weights(model: nn.Module, settings: NMSettings, context: StageContext) -> list[str]:
    """Names of the weights, of the chosen layers, whose input channels (the second dimension) make groups of `m`."""
    names = chosen_weights(model, settings, "n-m")
    inputs = {name: model.get_parameter(name).shape[1] for name in names}
    if whole := {name.removesuffix(".weight"): count for name, count in inputs.items() if count % settings.m}:
        context.log.info("left whole: the input channels make no groups", m=settings.m, input_channels=whole)
    if len(whole) == len(names):
        what = f"none of the layers has input channels in groups of {settings.m}: {', '.join(map(str, whole))}"
        raise PqdError(Problem("n-m.m", what, "choose an m that divides the input channels of some layer"))
    return [name for name, count in inputs.items() if count % settings.m == 0]


def keep(weight: Tensor, held: Tensor | None, n: int, m: int) -> Tensor:
    """The mask (True: kept) of the `n` largest of every `m` weights; of equal ones the earlier stays."""
    order = scores(weight, held).movedim(1, -1)
    largest = order.reshape(-1, m).argsort(dim=1, descending=True, stable=True)[:, :n]
    mask = torch.zeros(len(largest), m, dtype=torch.bool, device=weight.device).scatter_(1, largest, True)
    mask = mask.view_as(order).movedim(-1, 1).contiguous()
    return mask if held is None else mask & held.to(mask.device).bool()


def pruning_steps(total: int, settings: NMSettings) -> dict[int, int]:
    """How many weights of a group stay, from which optimizer step of `total` on: m - 1 at `begin`, n at `end`."""
    first, last = (max(1, int(share * total)) for share in (settings.begin, settings.end))
    prunings = settings.m - settings.n
    between = (last - first) / max(1, prunings - 1)
    return {first + round(i * between): settings.m - 1 - i for i in range(prunings)}


def _prune_gradually(prune: Callable[[int], None], settings: NMSettings) -> Callable[[int, int], None]:
    """A callback of `fit` that takes one weight more of each group when its step has come."""

    def prune_when_due(done: int, total: int) -> None:
        if kept := pruning_steps(total, settings).get(done):
            prune(kept)

    return prune_when_due
