"""NNCF's quantizers, in every legal order with the other stages, from training to a file of integers."""

from __future__ import annotations

import copy
import itertools
import logging
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_kit import BRIEF, context, images, network
from torch import Tensor, nn

from pqd_channel import ChannelSettings, channel
from pqd_core import PqdError, Spec, run
from pqd_core.facts import probe_fake_quant, probe_plain_modules, probe_sparse
from pqd_core.plan import build_plan
from pqd_distill import LogitKdSettings, logit_kd
from pqd_nncf import NncfInt8Settings, missing_tools, nncf_int8
from pqd_nncf.integers import round_biases
from pqd_prune import MagnitudeSettings, magnitude

if MISSING := list(missing_tools()):
    pytest.skip(f"{MISSING[0].what} (tox -e nncf runs these)", allow_module_level=True)

BRIEFLY = NncfInt8Settings(training=BRIEF, calibration_images=64)
STAGES: dict[str, tuple[Any, Any]] = {
    "magnitude": (magnitude, MagnitudeSettings(sparsity=0.7, training=BRIEF)),
    "nncf-int8": (nncf_int8, BRIEFLY),
    "logit-kd": (logit_kd, LogitKdSettings(training=BRIEF)),
    "channel": (channel, ChannelSettings(macs=0.6, multiple=4, min_width=4, training=BRIEF)),
}
Order = tuple[str, ...]
ORDERS: list[Order] = [
    *itertools.permutations(["magnitude", "nncf-int8", "logit-kd"]),
    ("channel", "nncf-int8", "magnitude"),
]
Facts = dict[str, dict[str, Tensor]]
Finished = tuple[Order, nn.Module, Facts]


@pytest.fixture(scope="module", params=ORDERS, ids="-".join)
def finished(request: pytest.FixtureRequest) -> Finished:
    """A network after the stages of one order; to look at, never to change."""
    model, facts = network(width=16), Facts()
    for name in request.param:
        stage, settings = STAGES[name]
        around = context(epochs=1, facts=facts, teacher=network(seed=1))
        model = stage.run(stage.restructure(model, settings, around), settings, around)
        facts = around.facts
    return request.param, model, facts


def frozen(order: Order, model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model).eval()
    for name in order:
        model = STAGES[name][0].freeze(model)
    return model


def test_every_fact_still_holds_at_the_end(finished: Finished) -> None:
    _, model, facts = finished
    assert probe_fake_quant(model, facts["fake-quant"]) == []
    assert probe_sparse(model, facts["sparse"]) == []
    assert probe_plain_modules(model, {}) != []


@torch.no_grad()
def test_a_saved_state_rebuilds_the_same_network(finished: Finished) -> None:
    order, model, facts = finished
    rebuilt = network(seed=9, width=16)
    for name in order:
        around = context(facts={fact: dict(evidence) for fact, evidence in facts.items()})
        rebuilt = STAGES[name][0].restructure(rebuilt, STAGES[name][1], around)
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(rebuilt.eval()(images()), model.eval()(images()))


@torch.no_grad()
def test_what_is_deployed_answers_like_what_was_trained(finished: Finished) -> None:
    order, model, _ = finished
    simulated, deployed = model.eval()(images(160)), frozen(order, model)(images(160))
    assert (deployed - simulated).abs().max() < 0.05 * simulated.abs().max()
    assert (deployed - simulated).abs().median() < 1e-4 * simulated.abs().max()


def test_the_int8_weights_hold_exactly_the_zeros_of_the_mask(finished: Finished) -> None:
    order, model, facts = finished
    stored = frozen(order, model).state_dict()
    for name, mask in facts["sparse"].items():
        assert stored[name].dtype == torch.int8
        assert not stored[name][~mask].any(), name
        assert (stored[name][mask] == 0).float().mean() < 0.1, name


def test_structure_is_not_changed_and_not_quantized_again_behind_it() -> None:
    spec = {"backbone": "resnet20", "dataset": "digits", "runtimes": ["onnxruntime"], "measure": ["size"]}
    for later in ("channel", "int8-qat"):
        with pytest.raises(PqdError, match="plain-modules") as refused:
            build_plan(Spec(**spec, stages=["nncf-int8", later]))
        assert f"{later} -> nncf-int8" in str(refused.value) or later == "int8-qat"


def test_a_layer_that_is_excluded_stays_float() -> None:
    settings = NncfInt8Settings(training=BRIEF, calibration_images=64, exclude=("stem.*", "head.1"))
    around = context(epochs=0)
    model = nncf_int8.run(nncf_int8.restructure(network(), settings, around), settings, around)
    stored = nncf_int8.freeze(model).state_dict()
    floats = {name for name, tensor in stored.items() if tensor.dim() > 1 and tensor.dtype == torch.float32}
    assert floats == {"stem.0.weight", "head.1.weight"}


@pytest.mark.parametrize(("weight_range", "largest"), [("full", 127), ("reduced", 64)])
def test_the_largest_weight_of_each_channel_begins_where_it_was_asked_to(weight_range: str, largest: int) -> None:
    settings = NncfInt8Settings(training=BRIEF, calibration_images=64, weight_range=weight_range)
    around = context(epochs=0)
    model = nncf_int8.run(nncf_int8.restructure(network(), settings, around), settings, around)
    for name, tensor in nncf_int8.freeze(model).state_dict().items():
        if tensor.dtype == torch.int8:
            found = tensor.int().abs().flatten(1).amax(1)
            assert ((found <= largest) & (found >= largest - 1)).all(), name


@pytest.mark.parametrize("preset", ["mixed", "performance"])
def test_activations_are_uint8_whatever_their_grid(preset: str) -> None:
    settings = NncfInt8Settings(training=BRIEF, calibration_images=64, preset=preset)
    around = context(epochs=0)
    model = nncf_int8.run(nncf_int8.restructure(network(), settings, around), settings, around)
    graph = nncf_int8.freeze(model).graph
    target = torch.ops.quantized_decomposed.quantize_per_tensor.default
    grids = [node.args for node in graph.nodes if node.target is target]
    assert {grid[3:] for grid in grids} == {(0, 255, torch.uint8)}
    assert ({grid[2] for grid in grids} <= {0, 128}) == (preset == "performance")


def test_a_range_that_begins_almost_at_zero_rounds_as_the_runtime_will() -> None:
    around = context(epochs=0)
    model = nncf_int8.restructure(network(), BRIEFLY, around)
    [low] = [p for name, p in model.named_parameters() if name.endswith("stem/2/relu/0__0.0.input_low")]
    low.data.fill_(-0.4 / 255)
    round_biases(model, around.example)
    with torch.no_grad():
        expected = model(images(160))
        deployed = nncf_int8.freeze(model)(images(160))
    assert (deployed - expected).abs().median() < 1e-6


def test_the_trained_network_has_the_biases_of_its_file() -> None:
    around = context(epochs=1)
    model = nncf_int8.run(nncf_int8.restructure(network(), BRIEFLY, around), BRIEFLY, around).eval()
    offsets = {name: tensor.detach().clone() for name, tensor in model.named_parameters() if name.endswith(".bias")}
    round_biases(model, around.example)
    moved = [(model.get_parameter(name) - offset).abs().max() for name, offset in offsets.items()]
    assert max(moved) < 1e-6


def test_nncf_neither_prints_nor_reports_nor_changes_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLoggerClass(), random.getstate(), list(sys.path)
    around = context(epochs=0)
    nncf_int8.run(nncf_int8.restructure(network(), BRIEFLY, around), BRIEFLY, around)
    assert (logging.getLoggerClass(), random.getstate(), list(sys.path)) == before
    assert capfd.readouterr().out == ""
    from nncf.telemetry.wrapper import NNCFTelemetry, telemetry

    assert not isinstance(telemetry, NNCFTelemetry)


@torch.no_grad()
def test_a_chain_of_layers_keeps_its_names_and_its_answers() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()
    expected = layers(images())
    around = context(epochs=0)
    model = nncf_int8.run(nncf_int8.restructure(layers, BRIEFLY, around), BRIEFLY, around)
    assert {"0.weight", "1.running_mean", "4.bias"} <= set(model.state_dict())
    assert (model(images()) - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_a_network_that_nncf_cannot_trace_is_refused_with_the_reason() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("not today")

    with pytest.raises(PqdError, match="NNCF cannot quantize Branching: not today"):
        nncf_int8.restructure(Branching(), BRIEFLY, context())


def test_digits_from_training_to_integers_in_both_runtimes(tmp_path: Path) -> None:
    brief = {"batch_size": 64, "lr": 0.05}
    spec = Spec(
        backbone={"use": "resnet20", "width": 0.25},
        dataset="digits",
        baseline={"epochs": 6, **brief},
        stages=["magnitude", "nncf-int8", "logit-kd"],
        budget={"epochs": 6},
        runtimes=["onnxruntime", "openvino"],
        measure=["accuracy", "size", "integers"],
        max_disagreement=0.02,
        threads=1,
    )
    report = run(spec, tmp_path / "run", store=tmp_path / "store")
    assert report.complete, report.problems
    compressed = [row for row in report.rows if row.label == "magnitude -> nncf-int8 -> logit-kd"]
    assert {row.runtime for row in compressed} == {"onnxruntime", "openvino"}
    for row in compressed:
        assert row.value("int8_share") == 1.0, row.runtime
        accuracy = row.value("accuracy")
        assert accuracy is not None
        assert accuracy > 0.8
