"""What is deployed computes what the frozen model does, holds its weights, and nothing else."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from runtime_kit import (
    CONVOLUTIONS,
    FORMS,
    LINEARS,
    NAMES,
    SHAPE,
    Shelf,
    export,
    images,
    implementation,
    reference,
    settings_of,
    the_shelf,
)
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from pqd_core import DeployError
from pqd_runtimes import translation
from pqd_runtimes.onnx_bytes import serialized
from pqd_runtimes.onnx_runtime import session_options
from pqd_runtimes.program import exported_program

KINDS = ("layerType", "runtimePrecision")
LAYERS = ["block.0", "block.3", "depthwise", "head", "hidden", "stem", "widen"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


def contents(file: Path) -> dict[str, bytes]:
    return {part.name: part.read_bytes() for part in sorted(file.parent.iterdir())}


def operators(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


def optimized(file: Path, where: Path) -> onnx.GraphProto:
    """The graph that ONNX Runtime really runs."""
    options = session_options(1, settings_of("onnxruntime"))  # type: ignore[arg-type]
    options.optimized_model_filepath = str(where / "optimized.onnx")
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return onnx.load(where / "optimized.onnx").graph


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize("batch", [1, 7, 128])
def test_the_float_file_agrees_with_torch_at_any_batch_size(shelf: Shelf, runtime: str, batch: int) -> None:
    logits = shelf.session("float", runtime)(images(batch).numpy())
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference(shelf.model("float"), images(batch)), atol=1e-5)


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize("batch", [1, 7, 128])
def test_the_int8_file_agrees_with_torch_at_any_batch_size(shelf: Shelf, runtime: str, batch: int) -> None:
    """Within 3 % of the range of the logits: runtimes round a few activations to the next step."""
    expected = reference(shelf.model("int8"), images(batch))
    logits = shelf.session("int8", runtime)(images(batch).numpy())
    assert np.abs(logits - expected).max() < 0.03 * np.ptp(reference(shelf.model("int8"), images(128)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("runtime", NAMES)
def test_a_second_export_gives_the_same_bytes(shelf: Shelf, runtime: str, form: str, tmp_path: Path) -> None:
    again = export(shelf.model(form), runtime, tmp_path / "again")
    assert contents(again) == contents(shelf.file(form, runtime))


def test_both_runtimes_are_fed_from_one_translation(shelf: Shelf, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copy(shelf.file("int8", "onnxruntime"), shared / "model.onnx")
    for runtime in ("onnxruntime", "openvino"):
        file = export(nn.Identity(), runtime, tmp_path / runtime, shared)  # would fail if it were translated
        assert contents(file) == contents(shelf.file("int8", runtime))


@pytest.mark.parametrize("form", FORMS)
def test_weights_lie_ahead_of_everything_else_and_nothing_is_lost_by_it(shelf: Shelf, form: str) -> None:
    data = shelf.file(form, "onnxruntime").read_bytes()
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    assert weights == list(model.graph.initializer[: len(weights)])
    assert max(map(data.index, (w.raw_data for w in weights))) < data.index(model.graph.node[0].SerializeToString())
    plain = model.SerializeToString()
    assert (len(data), serialized(onnx.load_model_from_string(plain))) == (len(plain), data)


def test_int8_weights_are_stored_as_int8_only(shelf: Shelf) -> None:
    graph = onnx.load(shelf.file("int8", "onnxruntime")).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert {kinds[f"{layer}.weight"] for layer in LAYERS} == {TensorProto.INT8}
    assert operators(graph)["DequantizeLinear"] > operators(graph)["QuantizeLinear"]
    largest_float = max(np.prod(t.dims) for t in graph.initializer if t.data_type == TensorProto.FLOAT)
    assert largest_float == 32  # scales and biases


def test_int8_weights_have_one_scale_a_channel_and_no_zero_point(shelf: Shelf) -> None:
    graph = onnx.load(shelf.file("int8", "onnxruntime")).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    node = next(node for node in graph.node if node.input[0] == "widen.weight")
    assert [(a.name, a.i) for a in node.attribute] == [("axis", 0)]
    assert stored[node.input[1]].shape == (32,)
    assert not stored[node.input[2]].any()


def test_onnx_runtime_runs_no_layer_in_float(shelf: Shelf, tmp_path: Path) -> None:
    found = operators(optimized(shelf.file("int8", "onnxruntime"), tmp_path))
    assert (found["QLinearConv"], found["QGemm"], found["QLinearAdd"]) == (CONVOLUTIONS, LINEARS, 1)
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add"} & set(found)


def test_openvino_runs_no_layer_in_float(shelf: Shelf) -> None:
    graph = shelf.session("int8", "openvino").compiled.get_runtime_model()
    info = [{key: operator.get_rt_info()[key].astype(str) for key in KINDS} for operator in graph.get_ops()]
    layers = [entry for entry in info if entry["layerType"] in ("Convolution", "FullyConnected")]
    assert len(layers) == CONVOLUTIONS + LINEARS
    assert {entry["runtimePrecision"] for entry in layers} <= {"u8", "i8"}


def test_batch_norms_are_folded_into_the_float_onnx_file(shelf: Shelf) -> None:
    found = operators(onnx.load(shelf.file("float", "onnxruntime")).graph)
    assert found["Conv"] == CONVOLUTIONS
    assert not found["BatchNormalization"]


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_named_by_layer_and_have_the_same_zeros_everywhere(shelf: Shelf, form: str) -> None:
    model = dict(shelf.model("float").named_modules())
    for runtime in NAMES:
        found = shelf.weights(form, runtime)
        assert sorted(found) == LAYERS
        for layer, weight in found.items():
            original = model[layer].weight.detach()
            assert weight.dtype == (np.int8 if form == "int8" else np.float32)
            assert weight.size == original.numel()
            pruned = int((original == 0).sum())
            zeros = weight.size - np.count_nonzero(weight)
            assert zeros == pruned if form == "float" else zeros >= pruned > 0, (runtime, layer)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_pruned_weight_is_a_zero_without_a_sign_in_a_float_file(shelf: Shelf, runtime: str) -> None:
    assert any(torch.signbit(part[part == 0]).any() for part in shelf.model("float").parameters())
    for weight in shelf.weights("float", runtime).values():
        assert not np.signbit(weight[weight == 0]).any()


def test_int8_weights_are_the_same_integers_everywhere(shelf: Shelf) -> None:
    found = [shelf.weights("int8", runtime) for runtime in NAMES]
    for layer in LAYERS:
        first, *others = (weights[layer].ravel() for weights in found)
        assert all(np.array_equal(first, other) for other in others)
        assert -64 <= first.min() < 0 < first.max() <= 63


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("runtime", NAMES)
def test_a_file_tells_nothing_of_the_machine_that_made_it(shelf: Shelf, runtime: str, form: str) -> None:
    for content in contents(shelf.file(form, runtime)).values():
        assert b"runtime_kit" not in content
        assert b"site-packages" not in content
        assert str(shelf.folder).encode() not in content


def test_an_int8_program_does_not_carry_its_float_weights_along(shelf: Shelf) -> None:
    program = torch.export.load(shelf.file("int8", "torch"))
    stored = [*program.state_dict.values(), *program.constants.values()]
    assert max(tensor.numel() for tensor in stored if tensor.is_floating_point()) == 32  # scales and biases


class Varied(nn.Module):
    """One of every operator that is translated as it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.line, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv1d(4, 4, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.wide(x)), 2) * F.sigmoid(F.avg_pool2d(F.relu6(self.wide(x)), 2))
        x = torch.cat([F.hardtanh(F.silu(x)) + F.hardswish(x), F.gelu(x) * F.hardsigmoid(x)], 1)
        x = self.line(x.reshape(-1, 4, 64)).view(-1, 8, 64)
        logits: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(x.view(-1, 8, 8, 8), 1), 1))
        return logits


def test_translating_without_decomposing_gives_the_same_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = exported_program(model := Varied().eval(), torch.zeros(2, *SHAPE))
    assert {node.target for node in program.graph.nodes if node.op == "call_function"} - translation.DIRECT == {
        torch.ops.aten.adaptive_avg_pool2d.default
    }
    with monkeypatch.context() as patch:
        patch.setattr(ExportedProgram, "run_decompositions", lambda *_: pytest.fail("was decomposed"))
        direct = export(model, "onnxruntime", tmp_path / "direct")
    monkeypatch.setattr(translation, "DIRECT", frozenset())
    decomposed = export(model, "onnxruntime", tmp_path / "decomposed")
    first, second = (onnx.load(file).graph for file in (direct, decomposed))
    assert [node.op_type for node in first.node] == [node.op_type for node in second.node]
    run = [
        implementation("onnxruntime").open_session(file, 1, settings_of("onnxruntime")) for file in (direct, decomposed)
    ]
    np.testing.assert_array_equal(*(session(images(3).numpy()) for session in run))


class Twice(nn.Module):
    """One layer in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(self.conv(x)).mean((2, 3)))
        return logits


class Tokens(nn.Module):
    """Linear layers over a sequence, whose weights exporters like to transpose, called in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Linear(SHAPE[0], 6), nn.Linear(6, 6)
        self.head = nn.Parameter(torch.randn(10, 6))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(2).transpose(1, 2))
        tokens = nn.functional.linear(tokens, self.mix.weight)
        return nn.functional.linear(tokens.mean(1), self.head)


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize(
    ("model", "sizes"), [(Twice(), {"conv": 81, "head": 30}), (Tokens(), {"embed": 18, "mix": 36, "head": 60})]
)
def test_every_weight_of_a_layer_is_found_once(
    model: nn.Module, sizes: dict[str, int], runtime: str, tmp_path: Path
) -> None:
    file = export(model.eval(), runtime, tmp_path / runtime)
    module = implementation(runtime)
    assert {name: weight.size for name, weight in module.weights(file).items()} == sizes
    logits = module.open_session(file, 1, settings_of(runtime), None)(images(3).numpy())
    np.testing.assert_allclose(logits, reference(model, images(3)), atol=1e-5)


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x.amax((2, 3))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Untranslatable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = torch.special.bessel_j1(x).mean((2, 3))
        return logits


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize(
    ("model", "reason"),
    [(FixedBatch(), "cannot trace"), (TwoOutputs(), "1 inputs and 2 outputs"), (Branching(), "cannot trace")],
)
def test_a_model_that_cannot_be_deployed_is_refused(
    model: nn.Module, reason: str, runtime: str, tmp_path: Path
) -> None:
    with pytest.raises(DeployError, match=reason):
        export(model, runtime, tmp_path / runtime)


def test_an_operator_without_a_counterpart_in_onnx_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="bessel_j1"):
        export(Untranslatable(), "onnxruntime", tmp_path / "onnxruntime")
    assert not list((tmp_path / "onnxruntime").iterdir())
