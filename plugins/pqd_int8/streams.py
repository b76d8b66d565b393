"""Residual streams: all that is added together counts in one unit.

A residual block adds what it computed to what it was given, and the next block does so with the sum. Where both
operands and the sum have one step, that addition is one of integers: exact, in every runtime. OpenVINO computes
convolution, addition and the rounding of the sum in one kernel and leaves out the convolution's own rounding; with one
step that changes nothing, since rounding a number and adding a whole one is adding it and then rounding.

Each member keeps its own zero point, so that what a ReLU wrote still uses the whole grid.
"""

from __future__ import annotations

from torch.fx import GraphModule, Node

from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_int8.quantizer import ADDS, called, end_of_chain, origin

Stream = list[ActivationFakeQuant]


def join_streams(model: GraphModule) -> None:
    """What a residual addition reads and writes has one step from now on, through chains of additions."""
    streams: list[Stream] = []
    for node in model.graph.nodes:
        if node.target in ADDS and (added := _added(node, model)):
            touched = [stream for stream in streams if any(part in stream for part in added)]
            streams = [stream for stream in streams if stream not in touched]
            streams.append(list(dict.fromkeys(part for stream in (*touched, added) for part in stream)))
    for stream in streams:
        for part in stream:
            part.stream = tuple(stream)


def _added(addition: Node, model: GraphModule) -> Stream:
    """Operands and sum of an addition on grids; nothing if one of them is on none."""
    operands = [operand for operand in addition.args[:2] if isinstance(operand, Node)]
    sums = list(end_of_chain(addition, model).users)
    found = [called(node, model) for node in (*(origin(operand, model) for operand in operands), *sums)]
    parts = [part for part in found if isinstance(part, ActivationFakeQuant)]
    return parts if len(parts) == len(found) and len(operands) == 2 else []
