"""VGG-16 (Simonyan and Zisserman 2015, table 1, column D) as it is used for CIFAR.

A batch norm behind every convolution, which needs no bias of its own then, and one linear layer in place of three.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from pqd_core import DataInfo
from pqd_vision.blocks import conv3x3, initialize, scaled
from pqd_vision.settings import Width

GROUPS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and channels between two max-poolings."""


def build(settings: Width, info: DataInfo) -> nn.Module:
    """The network; 14,724,042 parameters for three channels, ten classes and width 1.

    Layers have the paper's names (`conv3_2`). An image that is down to one pixel is not pooled further, so that
    images smaller than 32x32 work; what is left of larger ones is averaged.
    """
    channels, height, width = info.shape
    layers = OrderedDict[str, nn.Module]()
    for group, (convolutions, base) in enumerate(GROUPS, 1):
        outputs = scaled(base, settings.width)
        for place in (f"{group}_{number}" for number in range(1, convolutions + 1)):
            layers |= {f"conv{place}": conv3x3(channels, outputs), f"bn{place}": nn.BatchNorm2d(outputs)}
            layers[f"relu{place}"] = nn.ReLU()
            channels = outputs
        if min(height, width) > 1:
            layers[f"pool{group}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
    if max(height, width) > 1:
        layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(channels, info.num_classes)}
    network = nn.Sequential(layers)
    initialize(network)
    return network
