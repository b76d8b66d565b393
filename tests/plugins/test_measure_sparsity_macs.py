"""Sparsity is of the stored weights; multiply-adds are of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measure_kit import SHAPE, context_of, deployed, some_data
from torch import nn

from pqd_core import Measurement, Settings
from pqd_measure import macs, sparsity


def sparsity_of(folder: Path, weights: dict[str, np.ndarray]) -> Measurement:
    context = context_of(some_data(), folder, weights=lambda one: weights)
    [[number]] = sparsity.measure([deployed(folder, "one")], Settings(), context)
    return number


def test_sparsity_is_exact_over_layers_of_different_size_and_type(tmp_path: Path) -> None:
    conv = np.ones((4, 3, 3, 3), np.int8)
    conv[0] = 0
    linear = np.full((10, 20), 1e-30, np.float32)
    linear[:, :2] = [0.0, -0.0]
    found = sparsity_of(tmp_path, {"conv": conv, "linear": linear})
    assert found.value == (27 + 20) / (108 + 200)
    assert found.n == 308
    assert found.provenance["layers"] == {"conv": 0.25, "linear": 0.1}


def test_a_dense_file_has_sparsity_zero_and_a_file_without_weights_has_none(tmp_path: Path) -> None:
    assert sparsity_of(tmp_path / "dense", {"conv": np.ones((2, 2), np.float32)}).value == 0.0
    found = sparsity_of(tmp_path / "empty", {})
    assert found.value is None
    assert found.missing == "the deployed file stores no weight of a convolution or linear layer"


def macs_of(folder: Path, model: nn.Module) -> Measurement:
    context = context_of(some_data(), folder, frozen_model=lambda one: model)
    [[number]] = macs.measure([deployed(folder, "one")], Settings(), context)
    return number


def small_network() -> nn.Module:
    """1x4x4 images: a convolution, a grouped one with stride, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).eval()


BY_HAND = 8 * 9 * 16 + 16 * (8 // 4) * 9 * 4 + 64 * 10


def test_multiply_adds_equal_a_count_by_hand(tmp_path: Path) -> None:
    assert macs_of(tmp_path, small_network()).value == BY_HAND


def test_zero_weights_are_counted_as_work_and_the_number_says_so(tmp_path: Path) -> None:
    model = small_network()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    found = macs_of(tmp_path, model)
    assert found.value == BY_HAND
    assert "zero weights are counted as work" in found.provenance["counted"]


def test_a_model_without_products_has_no_count(tmp_path: Path) -> None:
    found = macs_of(tmp_path, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert found.value is None
    assert found.missing is not None


def quantized(model: nn.Module) -> Any:
    """The PT2E-converted graph of `model`, exported again as for deployment."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    free = ({0: torch.export.Dim.DYNAMIC},)
    example = (torch.randn(2, *SHAPE),)
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, example, dynamic_shapes=free).module(), quantizer)
    prepared(*example)
    return move_exported_model_to_eval(convert_pt2e(prepared))


def test_an_int8_graph_has_the_multiply_adds_of_its_float_network(tmp_path: Path) -> None:
    graph = quantized(small_network())
    assert any("quantize" in str(node.target) for node in graph.graph.nodes)
    assert macs_of(tmp_path, graph).value == BY_HAND


def test_resnet18_on_32x32_images_takes_the_multiply_adds_of_the_literature() -> None:
    from torchvision.models import resnet18

    model = resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    assert macs.count_macs(model.eval(), (3, 32, 32)) == pytest.approx(0.56e9, rel=0.01)
