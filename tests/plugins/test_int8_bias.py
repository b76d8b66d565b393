"""The simulated network rounds biases as integer runtimes do, and the file has the biases that were simulated."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from stage_kit import BRIEF, context, images, network
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from pqd_int8 import Int8QatSettings, int8_qat
from pqd_int8.bias import LARGEST_BIAS, BiasRounding, drop_roundings, in_units
from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_runtimes import RUNTIMES

SETTINGS = Int8QatSettings(weight_range="full", calibration_images=64, training=BRIEF)


class Coarse(nn.Module):
    """Layers that add up few large products, so that one of them is a large part of an output's step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.second, self.before, self.head = nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.Linear(64, 10)
        for norm in (self.norm, self.before):
            nn.init.uniform_(norm.bias, -1, 1)
            nn.init.uniform_(norm.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        x = F.relu(self.before(F.relu(self.second(x)))).mean([2, 3])
        logits: Tensor = self.head(x)
        return logits


def calibrated(model: nn.Module) -> GraphModule:
    around = context(epochs=0)
    graph = int8_qat.run(int8_qat.restructure(model.eval(), SETTINGS, around), SETTINGS, around)
    assert isinstance(graph, GraphModule)
    return graph


def roundings(graph: nn.Module) -> list[BiasRounding]:
    return [part for part in graph.modules() if isinstance(part, BiasRounding)]


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(images())


def without(graph: GraphModule) -> GraphModule:
    """`graph` with the biases as they are."""
    twin = copy.deepcopy(graph)
    drop_roundings(twin)
    return twin


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_answers_what_was_simulated_with_rounded_biases(runtime: str, tmp_path: Path) -> None:
    graph = calibrated(Coarse())
    simulated, unrounded = logits(graph), logits(without(graph))
    record = next(record for record in RUNTIMES if record.name == runtime)
    implementation, settings = record.implementation(), record.settings()
    frozen = int8_qat.freeze(graph)
    (own := tmp_path / runtime).mkdir()
    file = implementation.export(frozen, images()[:2], own, tmp_path, settings)
    session = implementation.open_session(file, 1, settings)
    deployed = torch.from_numpy(session(images().numpy()))
    session.close()
    far = 1e-4 * float(simulated.abs().max())
    assert float(((deployed - simulated).abs() > far).float().mean()) < 0.01
    assert float(((deployed - unrounded).abs() > far).float().mean()) > 0.5


def test_the_frozen_network_holds_the_biases_that_were_simulated() -> None:
    graph = calibrated(network())
    simulated = logits(graph)
    assert len(roundings(graph)) == 6
    assert float((logits(int8_qat.freeze(graph)) - simulated).abs().median()) < 1e-6


@pytest.mark.parametrize("moving", [ActivationFakeQuant, nn.Module], ids=["ranges", "everything"])
def test_nothing_is_rounded_while_ranges_follow_the_batches(moving: type[nn.Module]) -> None:
    graph = calibrated(Coarse())
    plain = without(graph)
    for part in (*graph.modules(), *plain.modules()):
        if isinstance(part, moving):
            part.train()
    assert torch.equal(logits(graph), logits(plain))


def test_a_layer_s_bias_is_not_rounded_while_its_batch_norm_follows_the_batches() -> None:
    graph = calibrated(Coarse())
    [norm] = [part for rounding in roundings(graph)[:1] if (part := rounding.others[2]) is not None]
    outputs, weight = torch.randn(2, 32, 8, 8), graph.get_parameter("conv.weight")
    assert not torch.equal(roundings(graph)[0](outputs.clone(), weight), outputs)
    norm.train()
    assert torch.equal(roundings(graph)[0](outputs.clone(), weight), outputs)


def test_the_gradient_passes_as_if_biases_were_not_rounded() -> None:
    graph = calibrated(Coarse())
    outputs, gradient = torch.randn(2, 32, 8, 8, requires_grad=True), torch.randn(2, 32, 8, 8)
    roundings(graph)[0](outputs * 1, graph.get_parameter("conv.weight")).backward(gradient)
    assert outputs.grad is not None
    assert torch.equal(outputs.grad, gradient)
    assert graph.get_parameter("conv.weight").grad is None


class Twice(nn.Module):
    """One convolution that reads two values on different grids."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.flatten(torch.relu(self.conv(torch.relu(self.conv(x)))), 1))
        return logits


def test_a_layer_that_is_called_twice_keeps_its_bias_as_it_is() -> None:
    graph = calibrated(Twice())
    [rounding] = roundings(graph)
    assert rounding.axis == -1
    bias = graph.get_parameter("conv.bias").clone()
    int8_qat.freeze(graph)
    assert any(torch.equal(bias, tensor) for tensor in graph.state_dict().values())


def test_a_copy_rounds_by_its_own_grids() -> None:
    graph = calibrated(network())
    twin = copy.deepcopy(graph)
    own = set(twin.modules())
    assert all(part in own for rounding in roundings(twin) for part in rounding.others if part is not None)


def test_a_bias_is_a_whole_number_of_units_unless_32_bits_are_too_few() -> None:
    bias, unit = torch.tensor([0.26, -0.74, 3.0, 0.5, 0.0]), torch.tensor([0.1, 0.5, 2.0 / LARGEST_BIAS, 0.0, 0.0])
    assert in_units(bias, unit).tolist() == pytest.approx([0.3, -0.5, 3.0, 0.5, 0.0])
