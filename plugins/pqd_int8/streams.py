"""Residual streams: all that is added together counts in one unit.

A residual block adds what it computed to what it was given, and the next block does so with the sum. Where both
operands and the sum have one step, that addition is one of integers: exact, in every runtime. OpenVINO computes
convolution, addition and the rounding of the sum in one kernel and leaves out the convolution's own rounding; with one
step that changes nothing, since rounding a number and adding a whole one is adding it and then rounding.

Each member keeps its own zero point, so that what a ReLU wrote still uses the whole grid. And no member counts in steps
so wide that rounding would drown what its channels say: where values grow too much along a stream, an addition whose
operands and sum have steps of their own parts it. Else a batch norm behind it divides by what rounding has left of a
variance, and gradients grow with every block; those of an EfficientNet v2 S did, until they overflowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.rnn import pad_sequence

from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_int8.quantizer import ADDS, called, end_of_chain, origin

QUIET_CHANNELS, MOST_NOISE = 0.25, 0.01
"""A shared step adds at most this share of its variance to any but the quietest quarter of a value's channels."""
OPERANDS_AND_SUM = 3
Parts = list[ActivationFakeQuant]


def join_streams(model: GraphModule) -> None:
    """All that chains of residual additions tie together may have one step from now on."""
    for stream in _tied_together(model, lambda parts: True):
        for part in stream:
            part.stream = stream


class Spread:
    """Sees what a quantizer is given, and knows how much the values of a channel differ."""

    def __init__(self, part: ActivationFakeQuant) -> None:
        self._seen: list[Tensor] = []
        self._hook = part.register_forward_hook(self._see)

    def _see(self, _: nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
        values = inputs[0].detach().float()
        values = values.reshape(*values.shape, *[1] * (2 - values.dim()))  # a number for each image: of one channel
        channels = values.transpose(0, 1).flatten(1)
        self._seen.append(channels.var(1, correction=0))

    def close(self) -> float:
        """The variance that three of four channels exceed, of those that say something: mean over batches.

        Where the second dimension is that of the images, the last batch may have fewer of what counts as channels.
        """
        self._hook.remove()
        variances = pad_sequence(self._seen, batch_first=True, padding_value=torch.nan).nanmean(0)
        said = variances[variances > 0]
        return float(said.quantile(QUIET_CHANNELS)) if len(said) else 0.0


def watch(model: GraphModule) -> dict[ActivationFakeQuant, Spread]:
    """What tells, once images have passed, whether the members of each stream are alike."""
    members = dict.fromkeys(part for addition in _additions(model) for part in addition if len(part.stream) > 1)
    return {part: Spread(part) for part in members}


def part_streams(model: GraphModule, spreads: Mapping[ActivationFakeQuant, Spread]) -> None:
    """Those have one step from now on whose values, as they are at this moment, bear it."""
    variances = {part: spread.close() for part, spread in spreads.items()}

    def bear_one_step(parts: Parts) -> bool:
        needed = {part: float(part.needed_step()) for part in parts}
        step = max(needed.values())
        return all(own == step or step**2 / 12 <= MOST_NOISE * variances[part] for part, own in needed.items())

    groups = _tied_together(model, bear_one_step) if variances else []
    for number, group in enumerate(groups):
        for part in group:
            part.group.fill_(number)
    for first in {part.stream[0] for group in groups for part in group}:
        first.set_grids()


def _tied_together(model: GraphModule, may_be: Callable[[Parts], bool]) -> list[Parts]:
    """What additions read and write, in groups: an addition ties its operands, its sum and all that hangs on them."""
    groups: list[Parts] = []
    for addition in _additions(model):
        groups += [[part] for part in addition if not any(part in group for group in groups)]
        touched = [group for group in groups if any(part in group for part in addition)]
        if may_be(tied := [part for group in touched for part in group]):
            groups = [*(group for group in groups if group not in touched), tied]
    return groups


def _additions(model: GraphModule) -> Iterator[Parts]:
    """Operands and sum of each residual addition that has all of them on grids, and scales none (`alpha`)."""
    for node in model.graph.nodes:
        if node.target in ADDS and not node.kwargs and len(parts := _added(node, model)) == OPERANDS_AND_SUM:
            yield parts


def _added(addition: Node, model: GraphModule) -> Parts:
    sources = [origin(operand, model) for operand in addition.args[:2] if isinstance(operand, Node)]
    found = (called(node, model) for node in (*sources, *end_of_chain(addition, model).users))
    return list(dict.fromkeys(part for part in found if isinstance(part, ActivationFakeQuant)))
