"""Residual streams: all that is added together counts in one unit.

A residual block adds what it computed to what it was given, and the next block does so with the sum. Where both
operands and the sum have one step, that addition is one of integers: exact, in every runtime. OpenVINO computes
convolution, addition and the rounding of the sum in one kernel and leaves out the convolution's own rounding; with one
step that changes nothing, since rounding a number and adding a whole one is adding it and then rounding.

Each member keeps its own zero point, so that what a ReLU wrote still uses the whole grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.fx import GraphModule, Node

from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_int8.quantizer import ADDS, called, end_of_chain, origin

MOST_WIDENED = 8
"""What counts in such steps still has 32 of them."""
OPERANDS_AND_SUM = 3
Parts = list[ActivationFakeQuant]


def join_streams(model: GraphModule) -> None:
    """All that chains of residual additions tie together may have one step from now on."""
    for stream in _tied_together(model, lambda parts: True):
        for part in stream:
            part.stream = tuple(stream)


def part_streams(model: GraphModule) -> None:
    """Those have one step from now on whose ranges, as they are at this moment, are alike."""
    groups = _tied_together(model, _are_alike)
    streams = {part.stream for group in groups for part in group}
    for group in groups:
        for part in group:
            part.group.fill_(groups.index(group))
    for stream in streams:
        stream[0].set_grids()


def _tied_together(model: GraphModule, may_be: Callable[[Parts], bool]) -> list[Parts]:
    """What additions read and write, in groups: an addition ties its operands, its sum and all that hangs on them."""
    groups: list[Parts] = []
    for addition in _additions(model):
        groups += [[part] for part in addition if not any(part in group for group in groups)]
        touched = [group for group in groups if any(part in group for part in addition)]
        if may_be(tied := [part for group in touched for part in group]):
            groups = [*(group for group in groups if group not in touched), tied]
    return groups


def _are_alike(parts: Parts) -> bool:
    steps = [float(part.needed_step()) for part in parts]
    return max(steps) <= MOST_WIDENED * min(steps)


def _additions(model: GraphModule) -> Iterator[Parts]:
    """Operands and sum of each residual addition that has all of them on grids."""
    for node in model.graph.nodes:
        if node.target in ADDS and len(parts := _added(node, model)) == OPERANDS_AND_SUM:
            yield parts


def _added(addition: Node, model: GraphModule) -> Parts:
    sources = [origin(operand, model) for operand in addition.args[:2] if isinstance(operand, Node)]
    found = (called(node, model) for node in (*sources, *end_of_chain(addition, model).users))
    return list(dict.fromkeys(part for part in found if isinstance(part, ActivationFakeQuant)))
