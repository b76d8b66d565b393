"""The widths of a narrowed network, as evidence: read off after pruning, given to a network that is rebuilt."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RESIZABLE = (*CONVOLUTIONS, nn.Linear, _BatchNorm, nn.PReLU)
"""Layers that know their own widths, and whose channels are independent of one another."""
Shapes = Mapping[str, Tensor]
"""The shape of a parameter or buffer, by its name."""


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers that have a shape."""
    return {name: t for name, t in (*model.named_parameters(), *model.named_buffers()) if t.dim()}


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """What `tensors` are like."""
    return {name: tuple(t.shape) for name, t in tensors(model).items()}


def probe(model: nn.Module, evidence: Shapes) -> list[str]:
    """Every tensor of a narrowed layer that is still there has the shape that was left."""
    own = shapes(model)
    wrong = [name for name, shape in evidence.items() if name in own and list(own[name]) != shape.tolist()]
    if not any(name in own for name in evidence):
        return ["none of the narrowed layers is there"]
    return [f"{name} is {own[name]}, not {tuple(evidence[name].tolist())}" for name in wrong]


def resize(model: nn.Module, evidence: Shapes) -> nn.Module:
    """`model`, with every layer as wide as the evidence says; which weights it holds then means nothing."""
    for prefix, layer in list(model.named_modules()):
        if isinstance(layer, RESIZABLE):
            own = {name for name, _ in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))}
            told = {name: evidence[path] for name in own if (path := f"{prefix}.{name}") in evidence}
            for name, shape in told.items():
                _cut(layer, name, shape.tolist())
            if told:
                _tell(layer)
    return model


def _cut(layer: nn.Module, name: str, shape: list[int]) -> None:
    old = getattr(layer, name)
    new = old.detach()[tuple(slice(0, size) for size in shape)].clone()
    setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _tell(layer: nn.Module) -> None:
    """The layer's own numbers follow its tensors."""
    if isinstance(layer, CONVOLUTIONS):
        if layer.groups == layer.out_channels > 1:  # depthwise: one group for each channel
            layer.groups = layer.weight.shape[0]
        layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm):
        tensor = layer.weight if layer.affine else layer.running_mean
        assert isinstance(tensor, Tensor)
        layer.num_features = len(tensor)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)


def changed(before: Mapping[str, tuple[int, ...]], model: nn.Module) -> dict[str, Tensor]:
    """The shapes of the tensors that are not what they were."""
    return {name: torch.tensor(shape) for name, shape in shapes(model).items() if shape != before[name]}
