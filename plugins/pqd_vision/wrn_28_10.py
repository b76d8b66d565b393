"""WRN-28-10 (Zagoruyko and Komodakis 2016, "Wide residual networks", table 1), without dropout."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from pqd_core import DataInfo
from pqd_vision.blocks import conv1x1, conv3x3, initialize, scaled
from pqd_vision.settings import Width

BLOCKS = 4
"""In each of three groups: 28 = 6 * 4 + 4 layers."""


class WideBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions (He et al. 2016, "Identity mappings")."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(outputs, outputs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv1x1(inputs, outputs, stride) if changes else None

    def forward(self, images: Tensor) -> Tensor:
        """The features (N, outputs, H / stride, W / stride)."""
        active = self.relu1(self.bn1(images))
        features = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        # A shortcut that changes the shape starts behind the first activation, as in the authors' code.
        shortcut = images if self.shortcut is None else self.shortcut(active)
        return features + shortcut  # type: ignore[no-any-return]


def build(settings: Width, info: DataInfo) -> nn.Module:
    """The network; 36,479,194 parameters for three channels, ten classes and width 1."""
    inputs, *widths = (scaled(channels, settings.width) for channels in (16, 160, 320, 640))
    layers = OrderedDict[str, nn.Module](conv1=conv3x3(info.shape[0], inputs))
    for number, outputs in enumerate(widths, 1):
        strides = [1 if number == 1 else 2] + [1] * (BLOCKS - 1)
        layers[f"group{number}"] = nn.Sequential(
            *(WideBlock(outputs if i else inputs, outputs, stride) for i, stride in enumerate(strides))
        )
        inputs = outputs
    layers.update(bn=nn.BatchNorm2d(inputs), relu=nn.ReLU(), avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    layers["fc"] = nn.Linear(inputs, info.num_classes)
    network = nn.Sequential(layers)
    initialize(network)
    return network
