"""What checks start from: a residual network, one without layers, and stages that prune and simulate quantization.

All small and real: the pruned network has masks that hold, the quantized one is a traced graph with fake quantization.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pqd_core.data import DataInfo
from pqd_core.fit import fit
from pqd_core.hookspecs import hookimpl
from pqd_core.records import BackboneDef, Settings, StageDef
from pqd_core.spec import Training
from pqd_core.stage import StageContext

BRIEF = Training(lr=0.02, batch_size=32, augment=False)


class Residual(nn.Module):
    """A stem, a residual block, a 1x1 convolution, a pool and a linear layer: what real networks are made of."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.widen = nn.Conv2d(8, 16, 1)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(16 * 16, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.stem(images)
        x = self.relu2(x + self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x))))))
        x = self.pool(self.relu3(self.widen(x)))
        logits: Tensor = self.head(torch.flatten(x, 1))
        return logits


class Bare(nn.Module):
    """Learns without any layer: a matrix over the mean brightness of each column."""

    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(columns, classes) / 4)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return images.mean((1, 2)) @ self.matrix


class ResidualBackbone:
    """Builds a `Residual`."""

    @staticmethod
    def build(settings: Settings, info: DataInfo) -> nn.Module:
        """A network for the data."""
        return Residual(info.shape[0], info.num_classes)


class BareBackbone:
    """Builds a `Bare`."""

    @staticmethod
    def build(settings: Settings, info: DataInfo) -> nn.Module:
        """A network for the data."""
        return Bare(info.shape[2], info.num_classes)


class Mask:
    """Every second weight of each layer becomes zero, at random, and stays zero."""

    @staticmethod
    def restructure(model: nn.Module, settings: Settings, context: StageContext) -> nn.Module:
        """Nothing to change."""
        return model

    @staticmethod
    def run(model: nn.Module, settings: Settings, context: StageContext) -> nn.Module:
        """The masks are the evidence of `sparse`."""
        masks = {name: torch.rand(p.shape) < 0.5 for name, p in model.named_parameters() if p.dim() > 1}
        context.give("sparse", masks)
        context.hold_facts(model)
        return model

    @staticmethod
    def freeze(model: nn.Module) -> nn.Module:
        """Nothing to turn."""
        return model


class FakeQuant:
    """The network becomes a graph that simulates INT8, by torchao's own rules, in ranges that no CPU saturates."""

    @staticmethod
    def restructure(model: nn.Module, settings: Settings, context: StageContext) -> nn.Module:
        """Traced, its batch norms folded, with fake quantization that has its shapes, as loading weights needs them."""
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True, reduce_range=True))
        batch = torch.export.Dim.DYNAMIC
        graph = torch.export.export(model.eval(), (context.example,), dynamic_shapes=({0: batch},)).module()
        prepared = _switchable(prepare_pt2e(graph, quantizer))
        with torch.no_grad():
            prepared(context.example)
        return prepared

    @staticmethod
    def run(model: nn.Module, settings: Settings, context: StageContext) -> nn.Module:
        """Training, which also finds the ranges."""
        context.give("fake-quant")
        return fit(model, context, BRIEF)

    @staticmethod
    def freeze(model: nn.Module) -> nn.Module:
        """Integers and their scales."""
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        return _switchable(convert_pt2e(model))


def _switchable(graph: nn.Module) -> nn.Module:
    """`graph` with a working `train` and `eval`, which torchao blocks because they mean nothing to its own graphs."""
    for name in ("train", "eval"):
        vars(graph).pop(name, None)
    return graph.eval()


@hookimpl
def pqd_backbones() -> Iterable[BackboneDef]:
    """Bring `toy-residual` and `toy-bare`."""
    yield BackboneDef(name="toy-residual", summary="A small residual network.", load=ResidualBackbone)
    yield BackboneDef(name="toy-bare", summary="A network without layers.", load=BareBackbone)


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """Bring `toy-mask` and `toy-fake-quant`."""
    yield StageDef(name="toy-mask", kind="prune", summary="Masks at random.", load=Mask, gives=("sparse",))
    yield StageDef(
        name="toy-fake-quant",
        kind="quantize",
        summary="Simulates INT8.",
        load=FakeQuant,
        needs=("trainable", "plain-modules"),
        gives=("fake-quant",),
        ends=("plain-modules",),
    )
