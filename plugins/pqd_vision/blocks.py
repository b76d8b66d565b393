"""What the architectures share: scaled widths, layers and initial weights."""

from __future__ import annotations

from torch import nn

MULTIPLE = 8
"""INT8 kernels work on groups of 8 or 16 channels; a rest costs as much as a whole group."""


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to the nearest multiple of 8, at least 8."""
    return max(MULTIPLE, int(channels * width / MULTIPLE + 0.5) * MULTIPLE)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the image's size at stride 1; no bias, since a batch norm follows or precedes."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias, for shortcuts."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def initialize(network: nn.Module) -> None:
    """Set weights so that layers keep the variance of what they pass (He et al. 2015, "Delving deep", section 2.2)."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
            nn.init.zeros_(part.bias)
