"""Residual networks for small images (He et al. 2015, "Deep residual learning"): basic blocks behind a 3x3 stem."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from pqd_core import DataInfo
from pqd_vision.blocks import conv1x1, conv3x3, initialize


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a 1x1 convolution where the shape changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        # One ReLU for each use: a quantizer tells places apart by the module.
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """The features (N, outputs, H / stride, W / stride)."""
        shortcut = images if self.downsample is None else self.downsample(images)
        features = self.relu1(self.bn1(self.conv1(images)))
        features = self.bn2(self.conv2(features))
        return self.relu2(features + shortcut)  # type: ignore[no-any-return]


def resnet(info: DataInfo, widths: Sequence[int], blocks: int) -> nn.Sequential:
    """A stage of `blocks` basic blocks for each of `widths`, halving the image before each but the first.

    Parameters have torchvision's names (`layer1.0.conv1.weight`).
    """
    stem = widths[0]
    layers = OrderedDict[str, nn.Module](conv1=conv3x3(info.shape[0], stem), bn1=nn.BatchNorm2d(stem), relu=nn.ReLU())
    inputs = stem
    for number, outputs in enumerate(widths, 1):
        strides = [1 if number == 1 else 2] + [1] * (blocks - 1)
        layers[f"layer{number}"] = nn.Sequential(
            *(BasicBlock(outputs if i else inputs, outputs, stride) for i, stride in enumerate(strides))
        )
        inputs = outputs
    layers.update(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, info.num_classes))
    network = nn.Sequential(layers)
    initialize(network)
    return network
