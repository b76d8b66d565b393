"""Structured pruning: whole channels go, until the network has a given share of its multiply-adds.

Channels that hang together go together (Fang et al. 2023, DepGraph, arXiv:2301.12900). A channel is worth the norm of
its weights in all layers (Li et al. 2017, arXiv:1608.08710; the group norm of DepGraph, section 3.3), or a first-order
estimate of how the loss would change without it (Molchanov et al. 2019, arXiv:1906.10771, section 3.1). They go in
blocks, so that widths stay multiples of what kernels work on.

The target is work, not time: a step has to give the same artifact on every machine, and a latency is a property of one.
Ask for several shares and read the latencies off the report.

The widths are the evidence of the fact `narrow`, from which a saved network is rebuilt. Masks that an earlier stage
left on weights are narrowed with them.
"""

from __future__ import annotations

import copy

import torch
from attrs import evolve
from torch import Tensor, nn

from pqd_channel import NARROW, ChannelSettings
from pqd_channel.choose import choose_channels
from pqd_channel.groups import LAYERS, WHERE, dependencies, prunable_groups, worth
from pqd_channel.narrow import changed, resize, shapes
from pqd_channel.remove import narrowed_masks, remove
from pqd_channel.work import macs, measure_work
from pqd_core import StageContext, choose_layers, eval_batches, fit, take

TAYLOR_BATCH = 64


def restructure(model: nn.Module, settings: ChannelSettings, context: StageContext) -> nn.Module:
    """The layers are as wide as the evidence says; without any, on the first run, as wide as they were.

    Raises:
        PqdError: on the first run, if the network cannot be narrowed, or not so far; whatever its weights are.
    """
    if NARROW.name not in context.facts:
        _try_out(copy.deepcopy(model), settings, context.example)
    return resize(model, context.facts.get(NARROW.name, {}))


def run(model: nn.Module, settings: ChannelSettings, context: StageContext) -> nn.Module:
    """The network has `macs` of its multiply-adds, or a little less, and is trained around what is gone.

    Raises:
        PqdError: the network cannot be narrowed, or not so far; before any training.
    """
    before, start = shapes(model), _macs(model, context)
    targets = [start * settings.macs ** (number / settings.rounds) for number in range(1, settings.rounds + 1)]
    for target, epochs in zip(targets, share_epochs(context.epochs, settings.rounds), strict=True):
        narrow(model, target, targets[-1], settings, context)
        held = context.facts.get(NARROW.name, {})
        context.give(NARROW.name, {**held, **changed(before, model)})
        fit(model, evolve(context, epochs=epochs), settings.training)
    return model


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: what is gone is gone."""
    return model


def share_epochs(epochs: int, rounds: int) -> list[int]:
    """Whole epochs for each round, the last ones the longer."""
    return [epochs * (number + 1) // rounds - epochs * number // rounds for number in range(rounds)]


def narrow(model: nn.Module, target: float, last: float, settings: ChannelSettings, context: StageContext) -> None:
    """The least important channels are gone, so that at most `target` multiply-adds are left; `last` can be reached."""
    if settings.importance == "taylor":
        find_gradients(model, settings, context)
    graph = dependencies(model, context.example)
    groups, whole = prunable_groups(graph, model, _allowed(model, settings))
    work, scores = measure_work(model, context.example), worth(groups, settings.importance)
    choose_channels(groups, scores, work, last, settings)
    removals = choose_channels(groups, scores, work, target, settings)
    model.zero_grad(set_to_none=True)
    if held := context.facts.get("sparse"):
        context.give("sparse", narrowed_masks(model, held, removals, context.example))
    remove(model, graph, removals, context.example)
    widths = {group.root: [group.channels, group.channels - len(removals.get(group.root, ()))] for group in groups}
    share = round(_macs(model, context) / macs(work, groups, [0] * len(groups)), 4)
    context.log.info("narrowed", macs_left=share, widths=widths, left_whole=whole)


def find_gradients(model: nn.Module, settings: ChannelSettings, context: StageContext) -> None:
    """Every parameter has the gradient of the loss on some training images; no statistics move."""
    order = torch.randperm(len(context.data.train), generator=torch.Generator().manual_seed(context.seed))
    images = take(context.data.train, order[: settings.images].numpy())
    model.eval().to(context.device).zero_grad()
    for batch in eval_batches(images, context.info, TAYLOR_BATCH):
        inputs, targets = batch.inputs.to(context.device), batch.targets.to(context.device)
        loss = context.task.loss(model(inputs), targets) * len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
    model.cpu()


def _try_out(model: nn.Module, settings: ChannelSettings, example: Tensor) -> None:
    """Some channels or other can be taken out of `model`, and it still runs."""
    graph = dependencies(model, example)
    groups, _ = prunable_groups(graph, model, _allowed(model, settings))
    work, alike = measure_work(model, example), [torch.ones(group.channels) for group in groups]
    remove(model, graph, choose_channels(groups, alike, work, macs(work, [], []) * settings.macs, settings), example)


def _allowed(model: nn.Module, settings: ChannelSettings) -> list[str]:
    layers = [name for name, part in model.named_modules() if isinstance(part, LAYERS)]
    return choose_layers(layers, settings.include, settings.exclude, WHERE)


def _macs(model: nn.Module, context: StageContext) -> float:
    return macs(measure_work(model, context.example), [], [])
