"""A small network with a residual block, pruned, in float and in INT8, and how to deploy it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from attrs import define, field
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F
from torchao.quantization.pt2e import (
    HistogramObserver,
    PerChannelMinMaxObserver,
    move_exported_model_to_eval,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

import pqd_runtimes
from pqd_runtimes import RUNTIMES, RuntimeSettings

aten = torch.ops.aten
SHAPE = (3, 16, 16)
CLASSES = 10
CONVOLUTIONS, LINEARS = 5, 2
NAMES = ("onnxruntime", "openvino", "torch")
FORMS = ("float", "int8")
RECORDS = {record.name: record for record in RUNTIMES}


class Net(nn.Module):
    """A stem, a residual block, a depthwise convolution, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.block = nn.Sequential(*_conv_bn(16, 16), nn.ReLU(), *_conv_bn(16, 16))
        self.depthwise, self.widen = nn.Conv2d(16, 16, 3, stride=2, groups=16), nn.Conv2d(16, 32, 1)
        self.hidden, self.head = nn.Linear(32, 24), nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.block(x))
        x = F.relu(self.widen(F.relu(self.depthwise(x))))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        logits: Tensor = self.head(F.relu(self.hidden(x)))
        return logits


def _conv_bn(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)


def float_model() -> nn.Module:
    """Batch norms with statistics, and half of the weights zero."""
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.running_mean, std=0.1)  # type: ignore[arg-type]
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.mul_(part.weight.abs() > part.weight.abs().median())
    return model.eval()


def int8_model() -> nn.Module:
    """The same network, calibrated and converted by PT2E; no float weight is left in its graph."""
    example = images(8)
    graph = torch.export.export(float_model(), (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    assert isinstance(graph, GraphModule)
    prepared = prepare_pt2e(graph, EveryLayer())
    prepared(images(64))
    converted: nn.Module = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return converted


class EveryLayer(Quantizer):  # type: ignore[misc]
    """uint8 into and out of each layer and each addition, int8 per channel for each weight."""

    activation = QuantizationSpec(torch.uint8, HistogramObserver, 0, 255, torch.per_tensor_affine)
    weight = QuantizationSpec(torch.int8, PerChannelMinMaxObserver, -64, 63, torch.per_channel_symmetric, ch_axis=0)

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            if node.target in (aten.conv2d.default, aten.linear.default):
                _note(node, {node.args[0]: self.activation, node.args[1]: self.weight})
                if all(user.op != "output" for user in node.users):
                    _note(_last(node), {}, self.activation)
            elif node.target is aten.add.Tensor:
                _note(node, dict.fromkeys(node.args, self.activation))
                _note(_last(node), {}, self.activation)
            elif node.target is aten.adaptive_avg_pool2d.default:
                _note(node, {node.args[0]: self.activation}, self.activation)
        return model

    def validate(self, model: GraphModule) -> None:
        pass


def _last(node: Node) -> Node:
    """The end of the chain of a batch norm and a ReLU that a layer's kernel computes along."""
    while len(node.users) == 1 and (user := next(iter(node.users))).target in (
        aten.batch_norm.default,
        aten.relu.default,
    ):
        node = user
    return node


def _note(node: Node, inputs: dict[Any, Any], output: QuantizationSpec | None = None) -> None:
    note = node.meta.setdefault("quantization_annotation", QuantizationAnnotation(_annotated=True))
    note.input_qspec_map.update(inputs)
    note.output_qspec = output or note.output_qspec


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def reference(model: nn.Module, batch: Tensor) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(batch).numpy()
    return logits


def implementation(runtime: str) -> ModuleType:
    module = RECORDS[runtime].implementation()
    assert isinstance(module, ModuleType)
    return module


def settings_of(runtime: str, **changes: Any) -> RuntimeSettings:
    settings = RECORDS[runtime].settings(**changes)
    assert isinstance(settings, pqd_runtimes.RuntimeSettings)
    return settings


def export(model: nn.Module, runtime: str, folder: Path, shared: Path | None = None) -> Path:
    """The file that `runtime` makes of `model` in `folder`, which is made."""
    shared = shared or folder.parent / f"{folder.name}-shared"
    for needed in (folder, shared):
        needed.mkdir(parents=True, exist_ok=True)
    file = implementation(runtime).export(model, torch.zeros(2, *SHAPE), folder, shared, settings_of(runtime))
    assert isinstance(file, Path)
    return file


@define
class Shelf:
    """Every form of the network deployed to every runtime, each made when first asked for."""

    folder: Path
    _models: dict[str, nn.Module] = field(factory=dict)
    _files: dict[tuple[str, str], Path] = field(factory=dict)

    def model(self, form: str) -> nn.Module:
        if form not in self._models:
            self._models[form] = int8_model() if form == "int8" else float_model()
        return self._models[form]

    def file(self, form: str, runtime: str) -> Path:
        if (form, runtime) not in self._files:
            where = self.folder / form
            self._files[form, runtime] = export(self.model(form), runtime, where / runtime, where / "shared")
        return self._files[form, runtime]

    def session(self, form: str, runtime: str, threads: int = 1, batch: int | None = None, **changes: Any) -> Any:
        settings = settings_of(runtime, **changes)
        return implementation(runtime).open_session(self.file(form, runtime), threads, settings, batch)

    def weights(self, form: str, runtime: str) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = implementation(runtime).weights(self.file(form, runtime))
        return found


def the_shelf(factory: pytest.TempPathFactory) -> Shelf:
    """One for all test files of a session: exporting takes seconds."""
    return _shelf_in(factory.getbasetemp() / "shelf")


@cache
def _shelf_in(folder: Path) -> Shelf:
    return Shelf(folder)
