"""What residual additions read and write has one step, and the deployed file adds integers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stage_kit import INFO, context, images
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from pqd_int8 import Int8PtqSettings, int8_ptq
from pqd_int8.fake_quant import ActivationFakeQuant, grid, zero_points
from pqd_runtimes import RUNTIMES


class Blocks(nn.Module):
    """Two blocks whose residuals follow one another, and one that begins anew behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first, self.second, self.third = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.between = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.relu(self.first(x) + x)
        x = F.relu(self.second(x) + x)
        x = F.relu(self.between(x))
        x = self.third(x) + x
        logits: Tensor = self.head(x.mean([2, 3]) + 1)
        return logits


FIRST = {"stem", "first", "second", "add", "add_1"}
THIRD = {"between", "third", "add_2"}
"""The members of each stream, by the operator whose value is rounded."""


def simulated(network: nn.Module, **settings: Any) -> GraphModule:
    """The network with fake quantizers that have seen nothing yet."""
    chosen = Int8PtqSettings(weight_range="full", calibration_images=64, **settings)
    graph = int8_ptq.restructure(network.eval(), chosen, context(epochs=0))
    assert isinstance(graph, GraphModule)
    return graph


def quantized(network: nn.Module | None = None, **settings: Any) -> GraphModule:
    chosen = Int8PtqSettings(weight_range="full", calibration_images=64, **settings)
    graph = int8_ptq.run(simulated(network or Blocks(), **settings), chosen, context(epochs=0))
    assert isinstance(graph, GraphModule)
    return graph


def by_operator(model: GraphModule) -> dict[str, ActivationFakeQuant]:
    """Each activation's quantizer by the layer or addition that computed what it rounds."""
    found = {}
    for node in model.graph.nodes:
        part = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(part, ActivationFakeQuant):
            source = node.args[0]
            while source.name.startswith(("relu", "_bias_rounding")):
                source = source.args[0]
            biases = [str(read.target) for read in source.all_input_nodes if str(read.target).endswith(".bias")]
            found[biases[0].removesuffix(".bias") if biases else source.name] = part
    return found


@pytest.mark.parametrize("activations", ["affine", "symmetric"])
def test_members_of_a_stream_have_one_step_and_no_other_value_has_it(activations: str) -> None:
    parts = by_operator(quantized(activations=activations))
    steps = {name: float(part.scale) for name, part in parts.items()}
    assert set(parts) >= FIRST | THIRD
    for stream in (FIRST, THIRD):
        own = {steps[name] for name in stream}
        assert len(own) == 1
        assert own.isdisjoint(steps[name] for name in set(steps) - stream)


def test_the_widest_range_of_a_stream_decides() -> None:
    parts = by_operator(quantized(observer="min-max"))
    for stream in (FIRST, THIRD):
        needed = [float(parts[name].needed_step()) for name in stream]
        assert float(parts[next(iter(stream))].scale) == pytest.approx(max(needed))


def test_what_a_relu_wrote_begins_at_zero_all_the_same() -> None:
    parts = by_operator(quantized())
    assert [int(parts[name].zero_point) for name in ("stem", "add", "add_1")] == [0, 0, 0]
    assert 0 < int(parts["first"].zero_point) < 255


def test_a_batch_that_widens_one_range_moves_the_whole_stream() -> None:
    parts = by_operator(quantized())
    before, apart = float(parts["stem"].scale), float(parts["between"].scale)
    parts["second"].train()(torch.tensor([-1000.0, 1000.0]))
    assert {float(parts[name].scale) for name in FIRST} == {float(parts["second"].scale)}
    assert float(parts["stem"].scale) > before
    assert float(parts["between"].scale) == apart


def growing() -> nn.Module:
    model = Blocks()
    with torch.no_grad():
        model.second.weight.mul_(32)
    return model


def test_a_stream_parts_where_a_shared_step_would_drown_its_values() -> None:
    parts = by_operator(quantized(growing()))
    steps = {name: float(parts[name].scale) for name in FIRST}
    assert len({steps[name] for name in ("stem", "first", "add")}) == 1
    for name in ("second", "add_1"):
        assert steps[name] == pytest.approx(float(parts[name].needed_step()))
        assert steps[name] > 8 * steps["stem"]


def test_a_network_that_is_read_again_has_the_same_groups() -> None:
    again = simulated(growing())
    again.load_state_dict(quantized(growing()).state_dict())
    parts = by_operator(again)
    before = float(parts["stem"].scale)
    parts["second"].train()(torch.tensor([-1000.0, 1000.0]))
    assert float(parts["stem"].scale) == before
    parts["add"].train()(torch.tensor([0.0, 1000.0]))
    assert float(parts["stem"].scale) == float(parts["add"].scale) > before


def test_every_value_can_have_a_step_of_its_own() -> None:
    parts = by_operator(quantized(residual_step="own"))
    assert len({float(parts[name].scale) for name in FIRST}) == len(FIRST)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("residual_step", ["shared", "own"])
def test_the_file_answers_what_was_simulated(runtime: str, residual_step: str, tmp_path: Path) -> None:
    model, batch = quantized(residual_step=residual_step), images(64)
    with torch.no_grad():
        simulated = model(batch)
    record = next(record for record in RUNTIMES if record.name == runtime)
    implementation, settings = record.implementation(), record.settings()
    (own := tmp_path / runtime).mkdir()
    file = implementation.export(int8_ptq.freeze(model), torch.zeros(2, *INFO.shape), own, tmp_path, settings)
    session = implementation.open_session(file, 1, settings)
    deployed = torch.from_numpy(session(batch.numpy()))
    session.close()
    far = 1e-4 * float(simulated.abs().max())
    assert float(((deployed - simulated).abs() > far).float().mean()) < 0.05
    if runtime == "openvino":
        assert bool(roundings_kept(file)) == (residual_step == "own")


def roundings_kept(file: Path) -> list[str]:
    model = openvino.Core().read_model(file)
    return [name for node in model.get_ordered_ops() if (name := node.get_friendly_name()).endswith("/kept")]


class Around(nn.Module):
    """A layer, and what is added around it."""

    layer: Callable[[Tensor], Tensor]

    def __init__(self, layer: nn.Module, around: Callable[[Around, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.add_module("layer", layer)
        self.stem, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 10)
        self.offset = nn.Parameter(torch.randn(8))
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.around(self, F.relu(self.stem(x)))
        logits: Tensor = self.head(x.mean([2, 3]))
        return logits


def offset_by_channel(net: Around, x: Tensor) -> Tensor:
    return net.layer(x + net.offset.view(1, -1, 1, 1)) + x


def number_by_image(net: Around, x: Tensor) -> Tensor:
    numbers = net.layer(x).mean([1, 2, 3]) + x.mean([1, 2, 3])
    return x + numbers.view(-1, 1, 1, 1)


def images_second(net: Around, x: Tensor) -> Tensor:
    places = x.flatten(2).permute(2, 0, 1)
    return (net.layer(places) + places).permute(1, 2, 0).unsqueeze(3)


@pytest.mark.parametrize(
    ("layer", "around"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), offset_by_channel),
        (nn.Conv2d(8, 8, 3, padding=1), number_by_image),
        (nn.Linear(8, 8), images_second),
    ],
    ids=["offset-by-channel", "number-by-image", "images-second"],
)
def test_what_is_added_may_have_any_shape(layer: nn.Module, around: Callable[..., Tensor]) -> None:
    network, chosen = Around(layer, around), Int8PtqSettings(weight_range="full", calibration_images=72)
    graph = int8_ptq.run(simulated(network), chosen, context(epochs=0))  # the second batch has 8 images
    with torch.no_grad():
        logits, exact = graph(images(8)), network(images(8))
    assert float((logits - exact).norm() / exact.norm()) < 0.1


def test_an_addition_that_scales_an_operand_adds_no_integers() -> None:
    network = Around(nn.Conv2d(8, 8, 3, padding=1), lambda net, x: torch.add(net.layer(x), x, alpha=0.5))
    parts = by_operator(quantized(network))
    assert len({float(parts[name].scale) for name in ("stem", "layer", "add")}) == 3


def test_a_rounding_is_kept_behind_a_convolution_of_one_dimension_without_bias(tmp_path: Path) -> None:
    def along(net: Around, x: Tensor) -> Tensor:
        line = x.flatten(2)
        return F.relu(net.layer(line) + line).unsqueeze(3)

    model = quantized(Around(nn.Conv1d(8, 8, 3, padding=1, bias=False), along), residual_step="own")
    record = next(record for record in RUNTIMES if record.name == "openvino")
    file = record.implementation().export(
        int8_ptq.freeze(model), torch.zeros(2, *INFO.shape), tmp_path, tmp_path, record.settings()
    )
    assert roundings_kept(file)


def test_a_long_stream_can_be_copied() -> None:
    def again_and_again(net: Around, x: Tensor) -> Tensor:
        layer = net.layer(x)
        for _ in range(150):
            x = F.relu(x + layer)
        return x

    copied = by_operator(copy.deepcopy(simulated(Around(nn.Conv2d(8, 8, 1), again_and_again))))
    assert len(copied["layer"].stream) == 152
    assert copied["layer"].stream is copied["stem"].stream


@given(st.floats(-100, 0), st.floats(0, 100), st.floats(1, 50))
def test_a_wider_step_leaves_no_end_of_the_range_outside(low: float, high: float, wider: float) -> None:
    ends = torch.tensor([low]), torch.tensor([high])
    for symmetric in (False, True):
        step = grid(*ends, symmetric)[0] * wider
        zero = zero_points(*ends, step, symmetric)
        points = [float((end / step + zero).round()) for end in ends]
        assert 0 <= points[0] <= points[1] <= 255


@pytest.mark.parametrize(
    ("low", "high", "zero"),
    [(-1.0, 3.0, 128), (-12.8, 12.7, 128), (-3.0, 20.0, 30), (-20.0, 3.0, 200), (0.0, 3.0, 0), (-3.0, 0.0, 255)],
    ids=["room", "no-more", "high", "low", "never-negative", "never-positive"],
)
def test_zero_is_in_the_middle_where_a_range_of_both_signs_fits(low: float, high: float, zero: int) -> None:
    ends = torch.tensor([low]), torch.tensor([high])
    assert int(zero_points(*ends, torch.tensor(0.1), symmetric=False)) == zero
