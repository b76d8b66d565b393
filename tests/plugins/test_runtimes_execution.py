"""What a runtime says it really runs: a quantized network's layers, additions and pools all run on integers."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runtime_kit import CONVOLUTIONS, LINEARS, Shelf, implementation, settings_of, the_shelf
from stage_kit import context
from torch import nn
from torch.fx import GraphModule, symbolic_trace

from pqd_core import Arrays, Data, DataInfo, DeployError, Operator
from pqd_int8 import Int8QatSettings, int8_qat
from pqd_runtimes import torch_execution

RUNTIMES = ("onnxruntime", "openvino")
MODES = ("eager", "compiled")
INFO = DataInfo("noise", (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3)
NETWORKS = {"resnet18_cifar": 0.25, "vgg16_bn": 0.125, "wrn_28_10": 0.1}
LAYERS = {"resnet18_cifar": 21, "vgg16_bn": 14, "wrn_28_10": 29}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


@cache
def quantized(name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    chosen: Any = SimpleNamespace(width=NETWORKS[name])
    model = import_module(f"pqd_vision.{name}").build(chosen, INFO).eval()
    noise = np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32), dtype=np.uint8)
    split = Arrays(noise, np.zeros(16, np.int64))
    stage = context(epochs=0, data=Data(INFO, split, split))
    int8 = Int8QatSettings(calibration_images=16, **settings)
    return int8_qat.freeze(int8_qat.run(int8_qat.restructure(model, int8, stage), int8, stage))


@pytest.fixture(scope="module")
def run_by(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a runtime runs of a model; each model is translated once."""

    @cache
    def operators(model: nn.Module, runtime: str, **chosen: Any) -> list[Operator]:
        folder = tmp_path_factory.getbasetemp() / f"execution-{id(model)}"
        for part in ("shared", runtime):
            (folder / part).mkdir(parents=True, exist_ok=True)
        settings, module = settings_of(runtime, **chosen), implementation(runtime)
        file = module.export(model, torch.zeros(2, 3, 32, 32), folder / runtime, folder / "shared", settings)
        found: list[Operator] = module.execution(file, settings)
        return found

    return operators


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_of_a_quantized_backbone_runs_in_float(name: str, runtime: str, run_by: Any) -> None:
    operators = run_by(quantized(name), runtime)
    assert [one for one in operators if one.role == "compute" and not one.integer] == []
    assert sum(one.macs > 0 for one in operators) >= LAYERS[name]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_images_are_quantized_and_nothing_else_is_converted(name: str, runtime: str, run_by: Any) -> None:
    (conversion,) = (one for one in run_by(quantized(name), runtime) if one.role == "convert")
    assert not conversion.integer


def test_all_runtimes_multiply_as_often_as_the_network_says(run_by: Any) -> None:
    ways: list[tuple[str, dict[str, str]]] = [(runtime, {}) for runtime in RUNTIMES]
    ways += [("torch", {"mode": mode}) for mode in MODES]
    totals = {sum(one.macs for one in run_by(quantized("vgg16_bn"), runtime, **how)) for runtime, how in ways}
    assert len(totals) == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_excluded_layer_is_seen_in_float(runtime: str, run_by: Any) -> None:
    operators = run_by(quantized("vgg16_bn", exclude=("fc",)), runtime)
    in_float = [one for one in operators if one.macs and not one.integer]
    assert len(in_float) == 1
    assert in_float[0].macs == 64 * 10


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_float_file_runs_in_float(shelf: Shelf, runtime: str) -> None:
    """OpenVINO compiles the two small linear layers into one operator of its own, which is not counted."""
    operators = implementation(runtime).execution(shelf.file("float", runtime), settings_of(runtime))
    assert not any(one.integer for one in operators if one.role == "compute")
    assert sum(one.macs > 0 for one in operators) in (CONVOLUTIONS, CONVOLUTIONS + LINEARS)


# --- PyTorch


def test_compiled_all_layers_run_on_integers_under_their_names_and_additions_in_float(run_by: Any) -> None:
    operators = run_by(quantized("resnet18_cifar"), "torch", mode="compiled")
    layers = [one for one in operators if one.macs]
    assert len(layers) == LAYERS["resnet18_cifar"]
    assert {"conv1", "layer1.0.conv1", "layer4.0.downsample.0", "fc"} <= {one.name for one in layers}
    assert all(one.integer and one.kind in ("qconv_pointwise", "qlinear_pointwise") for one in layers)
    in_float = [one for one in operators if one.role == "compute" and not one.integer]
    assert {one.kind for one in in_float} == {"add", "relu", "mean"}
    assert {one.why for one in in_float} == {torch_execution.LOOPS}


def test_compiled_an_excluded_layer_is_seen_in_float(run_by: Any) -> None:
    operators = run_by(quantized("vgg16_bn", exclude=("fc",)), "torch", mode="compiled")
    assert [one.name for one in operators if one.macs and not one.integer] == ["fc"]


def test_eager_everything_computes_in_float_and_says_why(run_by: Any) -> None:
    operators = run_by(quantized("vgg16_bn"), "torch")
    computing = [one for one in operators if one.role == "compute"]
    assert sum(one.macs > 0 for one in computing) == LAYERS["vgg16_bn"]
    assert not any(one.integer for one in computing)
    assert {one.why for one in computing} == {torch_execution.SIMULATED}
    weights = [one for one in operators if one.kind == "dequantize_per_channel"]
    assert len(weights) == LAYERS["vgg16_bn"]
    assert all(one.role == "convert" and one.integer for one in weights)


@pytest.mark.parametrize("mode", MODES)
def test_a_float_program_runs_in_float_and_needs_no_excuse(shelf: Shelf, mode: str) -> None:
    operators = implementation("torch").execution(shelf.file("float", "torch"), settings_of("torch", mode=mode))
    assert not any(one.integer or one.why for one in operators)
    assert sum(one.macs > 0 for one in operators) == CONVOLUTIONS + LINEARS


def test_a_layer_that_is_not_found_again_leaves_no_wrong_share(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_execution, "frozen_graph", lambda module, images: nn_graph())
    with pytest.raises(DeployError, match="what Inductor has made of 'stem' is not known; set mode: eager"):
        implementation("torch").execution(shelf.file("float", "torch"), settings_of("torch", mode="compiled"))


def nn_graph() -> GraphModule:
    """Without a layer."""
    return symbolic_trace(nn.ReLU())
