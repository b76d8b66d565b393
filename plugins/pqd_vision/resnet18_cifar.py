"""ResNet-18 (He et al. 2015, table 1) for small images: a 3x3 stem at stride 1 and no max-pooling."""

from __future__ import annotations

from torch import nn

from pqd_core import DataInfo
from pqd_vision.blocks import scaled
from pqd_vision.resnet import resnet
from pqd_vision.settings import Width


def build(settings: Width, info: DataInfo) -> nn.Module:
    """The network; 11,173,962 parameters for three channels, ten classes and width 1."""
    return resnet(info, [scaled(channels, settings.width) for channels in (64, 128, 256, 512)], blocks=2)
