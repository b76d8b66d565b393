"""The multiply-adds of a network as a function of its widths, so that any choice of channels can be priced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from attrs import frozen
from torch import Tensor, nn

from pqd_channel.groups import LAYERS, Group
from pqd_channel.narrow import CONVOLUTIONS


@frozen
class Work:
    """The multiply-adds of one layer for one image, by its widths."""

    per_pair: float
    """Of one output channel and one input channel, at all places."""
    outputs: int
    inputs: int
    depthwise: bool

    def macs(self, fewer: Mapping[str, float]) -> float:
        """The work with so many channels less."""
        inputs = 1 if self.depthwise else self.inputs - fewer.get("in", 0)
        return self.per_pair * (self.outputs - fewer.get("out", 0)) * inputs


@torch.no_grad()
def measure_work(model: nn.Module, example: Tensor) -> dict[str, Work]:
    """What each convolution and linear layer has to do for `example`."""
    found: dict[str, Work] = {}

    def watch(name: str, layer: nn.Module, output: Tensor) -> None:
        outputs, inputs, *kernel = layer.get_parameter("weight").shape
        places = output.numel() / len(output) / outputs
        depthwise = isinstance(layer, CONVOLUTIONS) and layer.groups == layer.out_channels > 1
        before = found[name].per_pair if name in found else 0  # a layer may be used twice
        found[name] = Work(before + places * math.prod(kernel), outputs, inputs, depthwise)

    layers = {name: part for name, part in model.named_modules() if isinstance(part, LAYERS)}
    hooks = [
        layer.register_forward_hook(lambda part, inputs, output, name=name: watch(name, part, output))
        for name, layer in layers.items()
    ]
    model.eval()(example)
    for hook in hooks:
        hook.remove()
    return found


def macs(work: Mapping[str, Work], groups: Sequence[Group], gone: Sequence[int]) -> float:
    """Multiply-adds of one image when the i-th group has lost `gone[i]` channels."""
    fewer: dict[str, dict[str, float]] = {name: {} for name in work}
    for group, count in zip(groups, gone, strict=True):
        for (layer, side), each in group.cuts.items():
            if layer in fewer:
                fewer[layer][side] = fewer[layer].get(side, 0) + count * each
    return sum(layer.macs(fewer[name]) for name, layer in work.items())
