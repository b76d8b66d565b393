"""Layers of a quantized network that were to stay float do, in every file, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper, parser
from runtime_kit import implementation, settings_of
from stage_kit import context, images
from test_runtimes_execution import LAYERS, quantized, run_by
from torch import nn

from pqd_int8 import Int8QatSettings, int8_qat
from pqd_runtimes.float_layers import keep_float

__all__ = ["run_by"]
NETWORK = "vgg16_bn"
INSIDE = ("conv2_1", "conv4_2")
"""The first reads a pool's values, the second a convolution's."""
LEVELS = onnxruntime.GraphOptimizationLevel
RUNTIMES = ("onnxruntime", "openvino")
BATCH = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
BODIES = {
    "convolution": "r = MaxPool<kernel_shape=[2,2]>(d)  y = Conv(r, conv, bias)",
    "linear": "s = Transpose<perm=[0,2,3,1]>(d)  r = Reshape(s, shape)  y = Gemm(r, linear, bias)",
    "product": "r = Transpose<perm=[0,2,3,1]>(d)  m = MatMul(r, linear)  y = Add(m, bias)",
}


def in_float(operators: Any) -> list[str]:
    return [one.name for one in operators if one.role == "compute" and not one.integer]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_excluded_layers_inside_run_in_float_and_all_others_on_integers(runtime: str, run_by: Any) -> None:
    operators = run_by(quantized(NETWORK, exclude=INSIDE), runtime)
    assert in_float(operators) == list(INSIDE)
    assert sum(one.macs > 0 and one.integer for one in operators) == LAYERS[NETWORK] - len(INSIDE)


def test_only_what_float_layers_read_and_write_is_converted(run_by: Any) -> None:
    operators = run_by(quantized(NETWORK, exclude=INSIDE), "onnxruntime")
    kinds = sorted(one.kind for one in operators if one.role == "convert")
    assert kinds == ["DequantizeLinear"] * len(INSIDE) + ["QuantizeLinear"] * (1 + len(INSIDE))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_first_and_last_run_in_float_where_they_are_asked_to(runtime: str, run_by: Any) -> None:
    operators = run_by(quantized(NETWORK, keep_float=("first", "last")), runtime)
    first, last = in_float(operators)
    assert (first, last) == ("conv1_1", "fc" if runtime == "onnxruntime" else "logits")
    assert sum(one.macs > 0 and one.integer for one in operators) == LAYERS[NETWORK] - 2


@pytest.fixture(scope="module")
def narrow() -> nn.Module:
    """A network in INT8 but for a layer that reads a single channel, and one that reads a single value."""
    torch.manual_seed(0)
    body: list[nn.Module] = [nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 10)]
    model = nn.Sequential(*body, nn.ReLU(), *head).eval()
    settings, around = Int8QatSettings(exclude=("2", "8")), context(epochs=0)
    return int8_qat.freeze(int8_qat.run(int8_qat.restructure(model, settings, around), settings, around))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_layer_that_reads_a_single_channel_runs_in_float_where_it_is_asked_to(
    runtime: str, narrow: nn.Module, tmp_path: Path
) -> None:
    file = files(narrow, tmp_path, (1, 8, 8))[runtime]
    operators = implementation(runtime).execution(file, settings_of(runtime))
    in_float, in_int8 = ([one.name for one in operators if one.macs and one.integer == integer] for integer in (0, 1))
    assert (in_float, len(in_int8)) == ((["2", "8"], 3) if runtime == "onnxruntime" else (["2"], 2))


AFTER = {"a float layer": nn.ReLU(), "a float layer behind a tanh": nn.Tanh(), "what has no integer kernel": nn.GELU()}
"""What reads a linear layer's values before they are on a grid again."""


@pytest.mark.parametrize("after", AFTER)
def test_a_linear_layer_in_front_of_what_computes_in_float_runs_on_integers(after: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 32), AFTER[after]]
    model = nn.Sequential(*body, nn.Linear(32, 10)).eval()
    around, excluded = context(epochs=0), ("6",) if "layer" in after else ()
    settings = Int8QatSettings(exclude=excluded)
    int8 = int8_qat.freeze(int8_qat.run(int8_qat.restructure(model, settings, around), settings, around))
    made = files(int8, tmp_path, (1, 8, 8))
    ran = implementation("onnxruntime").execution(made["onnxruntime"], settings_of("onnxruntime"))
    assert {one.name for one in ran if one.macs and not one.integer} == set(excluded)
    batch = images(64)
    for runtime, file in made.items():
        found = implementation(runtime).open_session(file, 1, settings_of(runtime))(batch.numpy())
        with torch.no_grad():
            expected = int8(batch).numpy()
        assert np.abs(found - expected).max() < 0.5 * np.ptp(expected) / 255, runtime


def files(model: Any, folder: Path, shape: tuple[int, ...] = (3, 32, 32)) -> dict[str, Path]:
    made = {}
    for runtime in RUNTIMES:
        for part in (runtime, "shared"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        arguments = (model, torch.zeros(2, *shape), folder / runtime, folder / "shared", settings_of(runtime))
        made[runtime] = implementation(runtime).export(*arguments)
    return made


def steps_apart(model: Any, file: Path, level: onnxruntime.GraphOptimizationLevel = LEVELS.ORT_ENABLE_ALL) -> float:
    """How far a file's logits are from the frozen network's, in INT8 steps, for one who opens it without pqd."""
    with torch.no_grad():
        expected = model(BATCH).numpy()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: BATCH.numpy()})
    return float(np.sqrt(np.mean((found - expected) ** 2)) / (np.ptp(expected) / 255))


def test_optimizing_takes_a_file_with_float_layers_no_further_from_the_frozen_network(tmp_path: Path) -> None:
    model = quantized(NETWORK, exclude=INSIDE)
    file = files(model, tmp_path)["onnxruntime"]
    as_written = steps_apart(model, tmp_path / "shared/model.onnx", level=LEVELS.ORT_DISABLE_ALL)
    assert steps_apart(model, file) < 1.5 * as_written


def test_only_the_copy_of_onnx_runtime_is_rewritten_and_only_if_a_layer_stays_float(tmp_path: Path) -> None:
    for name, settings in {"all": {}, "some": {"exclude": INSIDE}}.items():
        copy = files(quantized(NETWORK, **settings), tmp_path / name)["onnxruntime"].read_bytes()
        shared = (tmp_path / name / "shared/model.onnx").read_bytes()
        assert (copy == shared) == (name == "all")
        assert steps_of_activations(onnx.load_from_string(shared)) == {1}


def steps_of_activations(model: ModelProto) -> set[int]:
    """How many steps a dequantization of uint8 values has."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    grids = [node.input[1:] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return {stored[step].size for step, zero in grids if stored[zero].dtype == np.uint8}


def between_integers(body: str, channels: int) -> ModelProto:
    """A float layer that reads and writes quantized values, which a second reader shares."""
    text = f"""<ir_version: 9, opset_import: ["": 20]> net (float[2,{channels},6,6] x) =>
        (float y_again, float shared) {{ q = QuantizeLinear(x, step, zero)  d = DequantizeLinear(q, step, zero)  {body}
        qy = QuantizeLinear(y, step, zero)  y_again = DequantizeLinear(qy, step, zero)  shared = Relu(d) }}"""
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    draw = np.random.default_rng(0).normal
    values: dict[str, Any] = {"step": np.float32(0.05), "zero": np.uint8(120), "shape": np.array([-1, channels])}
    shapes = {"conv": (8, channels, 3, 3), "linear": (channels, 8), "bias": (8,)}
    values |= {name: draw(scale=0.2, size=shape).astype(np.float32) for name, shape in shapes.items()}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in values.items())
    return model


def answers(model: ModelProto, level: onnxruntime.GraphOptimizationLevel, where: Path) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = level, str(where)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    image = np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    found: list[np.ndarray] = session.run(None, {"x": image})
    return found


@pytest.mark.parametrize("channels", [8, 1])
@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_a_float_layer_behind_moved_values_stays_float_and_computes_the_same(
    body: str, channels: int, tmp_path: Path
) -> None:
    file, model = tmp_path / "optimized.onnx", between_integers(body, channels)
    expected = answers(model, LEVELS.ORT_DISABLE_ALL, file)
    assert keep_float(model.graph)
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL):
        for found, right in zip(answers(model, level, file), expected, strict=True):
            assert np.mean(np.abs(found - right) > 1e-6) < 0.01  # a last bit may decide how a value is rounded
    optimized = onnx.load(file).graph
    assert not any(tensor.data_type == TensorProto.INT8 for tensor in optimized.initializer)
    assert not {node.op_type for node in optimized.node} & {"QLinearConv", "QGemm", "QLinearMatMul"}
