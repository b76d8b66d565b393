"""Magnitude pruning (Han et al. 2015, arXiv:1506.02626): the smallest weights become zero and stay zero.

It knows weights by name alone, so a network of modules and one traced for quantization are pruned alike. The masks are
the evidence of the fact `sparse`: `fit` applies them after every optimizer step, in this stage and in all later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from pqd_core import PqdError, Problem, StageContext, fit
from pqd_prune import MagnitudeSettings

Weights = dict[str, Tensor]
Masks = dict[str, Tensor]


def restructure(model: nn.Module, settings: MagnitudeSettings, context: StageContext) -> nn.Module:
    """The structure stays: a zero takes the place of a weight."""
    return model


def run(model: nn.Module, settings: MagnitudeSettings, context: StageContext) -> nn.Module:
    """The share `settings.sparsity` of the included weights is zero, and the network is trained around the holes.

    Raises:
        PqdError: a glob fits no layer, or so much is to go that a layer would be left without a weight.
    """
    model.to(context.device)
    weights, before = choose_weights(model, settings), dict(context.facts.get("sparse", {}))

    def prune(sparsity: float) -> None:
        context.give("sparse", before | masks_for(weights, sparsity, settings.scope, before))

    on_step = []
    if settings.schedule == "gradual" and context.epochs:
        prune(initial := sparsity_of(weights))
        on_step.append(gradually(prune, settings, initial))
    else:
        prune(settings.sparsity)
    context.hold_facts(model)
    fit(model, context, settings.training, on_step=on_step)
    context.log.info("pruned", sparsity=sparsity_of(weights), layers=_by_layer(choose_weights(model, settings)))
    return model


def freeze(model: nn.Module) -> nn.Module:
    """Nothing to turn: the zeros are in the weights."""
    return model


def choose_weights(model: nn.Module, settings: MagnitudeSettings) -> Weights:
    """The weights of convolutions and linear layers that the globs choose, by parameter name.

    Raises:
        PqdError: a glob fits no layer, or none is left.
    """
    weights: Weights = {name: p for name, p in model.named_parameters() if p.dim() > 1 and name.endswith("weight")}
    layers = {name: name.removesuffix("weight").rstrip("._") for name in weights}
    known = f"the layers are {', '.join(layers.values())}"
    problems = [
        Problem(f"magnitude.{field}", f"{glob!r} fits no layer", known)
        for field in ("include", "exclude")
        for glob in getattr(settings, field)
        if not any(fnmatchcase(layer, glob) for layer in layers.values())
    ]
    chosen = {
        name: weight
        for name, weight in weights.items()
        if _fits(layers[name], settings.include) and not _fits(layers[name], settings.exclude)
    }
    if not chosen and not problems:
        problems.append(Problem("magnitude.exclude", "leaves no layer to prune", known))
    if problems:
        raise PqdError(*problems)
    return chosen


def _fits(layer: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(layer, glob) for glob in globs)


@torch.no_grad()
def masks_for(weights: Mapping[str, Tensor], sparsity: float, scope: str, before: Mapping[str, Tensor]) -> Masks:
    """For each weight a mask, True where it stays; what was pruned `before` stays pruned.

    Exactly `round(sparsity * n)` of the n weights go, over all layers or in each, unless more were gone already. The
    largest weight of each layer is never among them, so that no layer is cut off.

    Raises:
        PqdError: that would need the largest weights as well.
    """
    scores = {name: _protected(weight.abs().flatten()) for name, weight in weights.items()}
    if scope == "layer":
        kept = {name: _all_but_smallest(score, sparsity) for name, score in scores.items()}
    else:
        together = _all_but_smallest(torch.cat(list(scores.values())), sparsity)
        kept = dict(zip(scores, torch.split(together, [len(score) for score in scores.values()]), strict=True))
    masks = {name: keep.view_as(weights[name]) for name, keep in kept.items()}
    return {name: mask & before[name].bool() if name in before else mask for name, mask in masks.items()}


def _protected(score: Tensor) -> Tensor:
    score[score.argmax()] = torch.inf
    return score


def _all_but_smallest(score: Tensor, sparsity: float) -> Tensor:
    """True for all scores but the `round(sparsity * n)` smallest; of equal ones the first go."""
    count = round(sparsity * len(score))
    if count == 0:
        return torch.ones_like(score, dtype=torch.bool)
    threshold = score.kthvalue(count).values
    if threshold.isinf():
        what = f"{sparsity:.2%} of {len(score)} weights would leave a layer without any"
        raise PqdError(Problem("magnitude.sparsity", what, "prune less"))
    smaller, equal = score < threshold, score == threshold
    gone = smaller | (equal & (equal.cumsum(0) <= count - smaller.sum()))
    return ~gone


def gradually(
    prune: Callable[[float], None], settings: MagnitudeSettings, initial: float
) -> Callable[[int, int], None]:
    """A callback for `fit` that prunes from `initial` to the final sparsity in `settings.updates` steps."""

    def after_step(step: int, steps: int) -> None:
        first, last = round(settings.begin * steps), max(1, round(settings.end * steps))
        span = max(1, last - first)
        every = max(1, span // settings.updates)
        if step == last or (first < step < last and (step - first) % every == 0):
            prune(cubic(initial, settings.sparsity, (step - first) / span))

    return after_step


def cubic(initial: float, final: float, done: float) -> float:
    """The sparsity when the share `done` of the schedule is over (Zhu and Gupta 2017, arXiv:1710.01878, equation 1)."""
    return final + (initial - final) * (1 - min(1.0, done)) ** 3


def sparsity_of(weights: Mapping[str, Tensor]) -> float:
    """The share of zeros in all the weights together."""
    return sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())


def _by_layer(weights: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: round(float((weight == 0).float().mean()), 4) for name, weight in weights.items()}
