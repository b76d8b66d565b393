"""Each setting of the INT8 stages is seen in the file that is deployed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import load, numpy_helper
from pydantic import ValidationError
from stage_kit import BRIEF, INFO, LAYERS, context, network
from torch import nn
from torch.fx import GraphModule

import pqd_int8
from pqd_core import PqdError
from pqd_core.host.read_spec import parse_spec
from pqd_core.plan import build_plan
from pqd_core.testing import toy_host, toy_spec
from pqd_int8 import Int8PtqSettings, Int8QatSettings, int8_ptq, int8_qat
from pqd_int8.fold import affine_of
from pqd_runtimes import onnx_file, onnx_graph

CALIBRATED = Int8PtqSettings(weight_range="full", observer="moving-average")
TRAINED = Int8QatSettings(weight_range="full", training=BRIEF)


CHANGED: dict[str, Any] = {
    "weight_range": "reduced",
    "keep_float": ("first", "last"),
    "exclude": ("conv2",),
    "activations": "symmetric",
    "observer": "percentile",
    "percentile": 90.0,
}


def frozen(**changes: Any) -> nn.Module:
    """The small network as it is deployed, calibrated with the given settings."""
    settings, around = CALIBRATED.model_copy(update=changes), context(epochs=0)
    return int8_ptq.freeze(int8_ptq.run(int8_ptq.restructure(network(), settings, around), settings, around))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the usual settings."""
    return onnx_of(frozen(), tmp_path_factory.mktemp("usual"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file when every setting is another."""
    return onnx_of(frozen(**CHANGED), tmp_path_factory.mktemp("changed"))


def onnx_of(model: nn.Module, folder: Path) -> Path:
    return onnx_file.onnx_file(model, torch.zeros(2, *INFO.shape), folder)


def grids(file: Path) -> list[tuple[float, int]]:
    """Step and zero point of each activation, in the order of the graph."""
    graph = load(file).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = (node for node in graph.node if node.op_type == "QuantizeLinear")
    return [(float(stored[node.input[1]]), int(stored[node.input[2]])) for node in nodes]


def steps(model: nn.Module) -> list[float]:
    """The step of each activation, in the order of the graph."""
    assert isinstance(model, GraphModule)
    return [float(node.args[1]) for node in model.graph.nodes if "quantize_per_tensor" in str(node.target)]


def test_all_layers_are_int8_unless_some_are_kept_float_or_excluded(usual: Path, changed: Path) -> None:
    types = [{name: weight.dtype for name, weight in onnx_graph.weights(file).items()} for file in (usual, changed)]
    assert {name: types[0][name] for name in LAYERS} == dict.fromkeys(LAYERS, np.int8)
    assert {name for name in LAYERS if types[1][name] == np.int8} == {"conv1", "shortcut"}
    assert types[1]["stem.0"] == types[1]["head.1"] == types[1]["conv2"] == np.float32


def test_a_symmetric_grid_has_zero_in_its_middle_or_at_its_end(usual: Path, changed: Path) -> None:
    assert {zero for _, zero in grids(changed)} == {0, 128}
    assert {zero for _, zero in grids(usual)} - {0, 128}


def test_the_weight_range_bounds_the_integers_of_the_file(usual: Path, changed: Path) -> None:
    for file, largest in ((usual, 127), (changed, 64)):
        weights = onnx_graph.weights(file)
        assert int(abs(weights["conv1"]).max()) == int(abs(weights["shortcut"]).max()) == largest


def test_the_observer_sets_the_steps_of_the_file(usual: Path, changed: Path) -> None:
    mean, widest = steps(frozen()), steps(frozen(observer="min-max"))
    assert all(a >= b for a, b in zip(widest, mean, strict=True))
    assert sum(a > b for a, b in zip(widest, mean, strict=True)) >= 4
    assert grids(usual)[0][0] == pytest.approx(mean[0])
    assert grids(changed)[0][0] < grids(usual)[0][0]


def statistics(settings: Int8QatSettings, epochs: int) -> list[torch.Tensor]:
    """A batch norm's mean after each epoch of training."""
    around, seen = context(epochs=epochs), []
    model = int8_qat.restructure(network(), settings, around)
    around.log = type("Log", (), {"info": lambda *_, **__: seen.append(model.get_buffer("bn1.running_mean").clone())})()  # type: ignore[assignment]
    int8_qat.run(model, settings, around)
    return [network().bn1.running_mean, *seen]


@pytest.mark.parametrize("freeze", [0, 1, 3])
def test_batch_norms_stand_still_from_their_freeze_epoch_on(freeze: int) -> None:
    settings = TRAINED.model_copy(update={"batch_norm_freeze_epoch": freeze, "freeze_at": 0.01})
    means = statistics(settings, epochs=3)
    moved = [not torch.equal(a, b) for a, b in pairwise(means)]
    assert moved == [epoch < freeze for epoch in range(3)]


def test_frozen_batch_norms_reach_what_is_deployed() -> None:
    """With the learning rate next to nothing, only the statistics tell the two apart."""
    slow = TRAINED.model_copy(update={"training": BRIEF.model_copy(update={"lr": 1e-9})})
    biases = []
    for freeze in (0, 1):
        settings, around = slow.model_copy(update={"batch_norm_freeze_epoch": freeze}), context(epochs=1)
        model = int8_qat.freeze(int8_qat.run(int8_qat.restructure(network(), settings, around), settings, around))
        biases.append(model.get_parameter("conv1.bias").detach())
    factor, offset = affine_of(network().bn1)
    assert torch.allclose(biases[0], offset + factor * network().conv1.bias, atol=1e-5)
    assert not torch.allclose(biases[1], biases[0], atol=1e-3)


def test_keeping_the_only_layers_float_is_refused() -> None:
    settings = CALIBRATED.model_copy(update={"include": ("stem.0",), "keep_float": ("first",)})
    with pytest.raises(PqdError) as error:
        int8_ptq.restructure(network(), settings, context())
    [problem] = error.value.problems
    assert problem.where == "int8-ptq.keep_float"
    assert "stem.0" in problem.what


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep_float": ["middle"]},
        {"activations": "int4"},
        {"observer": "mean"},
        {"percentile": 50},
        {"percentile": 100.5},
        {"calibration_images": 0},
        {"weight_range": "int4"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_impossible_value_is_refused_at_its_place(wrong: dict[str, Any]) -> None:
    for settings in (Int8PtqSettings, Int8QatSettings):
        with pytest.raises(ValidationError) as error:
            settings(**wrong)
        assert error.value.errors()[0]["loc"][0] == next(iter(wrong))


def test_freezing_after_the_training_is_refused_before_it() -> None:
    host = toy_host(pqd_int8)

    def plan(freeze: int) -> None:
        stage = {"use": "int8-qat", "epochs": 3, "batch_norm_freeze_epoch": freeze}
        build_plan(parse_spec(toy_spec(stages=[stage]), host), host)

    plan(3)
    with pytest.raises(PqdError, match=r"int8-qat\.batch_norm_freeze_epoch: is 4, .* trains for 3 epochs"):
        plan(4)
