"""Narrowing in every legal order with pruning, quantizing and distilling; the others are refused with a reason."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_kit import BRIEF, context, images, network
from torch import Tensor, nn

from pqd_channel import ChannelSettings, channel, narrow
from pqd_core import PqdError, Spec, run
from pqd_core.facts import probe_fake_quant, probe_sparse
from pqd_core.plan import build_plan
from pqd_distill import FeatureKdSettings, LogitKdSettings, feature_kd, logit_kd
from pqd_int8 import Int8QatSettings, int8_qat
from pqd_prune import MagnitudeSettings, NMSettings, magnitude, n_m

STAGES: dict[str, tuple[Any, Any]] = {
    "channel": (channel, ChannelSettings(macs=0.6, multiple=4, min_width=4, training=BRIEF)),
    "magnitude": (magnitude, MagnitudeSettings(sparsity=0.5, training=BRIEF)),
    "n-m": (n_m, NMSettings(training=BRIEF)),
    "int8-qat": (int8_qat, Int8QatSettings(training=BRIEF, calibration_images=64)),
    "logit-kd": (logit_kd, LogitKdSettings(training=BRIEF)),
    "feature-kd": (feature_kd, FeatureKdSettings(training=BRIEF)),
}
ORDERS = [
    ("channel", "int8-qat", "logit-kd"),
    ("channel", "int8-qat", "feature-kd"),
    ("magnitude", "channel", "int8-qat", "logit-kd"),
    ("channel", "magnitude", "int8-qat", "feature-kd"),
    ("logit-kd", "n-m", "channel", "channel", "int8-qat"),
]
Facts = dict[str, dict[str, Tensor]]
Finished = tuple[tuple[str, ...], nn.Module, Facts]


def fresh(seed: int = 0) -> nn.Module:
    return network(seed, width=16)


@pytest.fixture(scope="module", params=ORDERS, ids="-".join)
def finished(request: pytest.FixtureRequest) -> Finished:
    """A network after the stages of one order; to look at, never to change."""
    model, facts = fresh(), Facts()
    for name in request.param:
        stage, settings = STAGES[name]
        around = context(epochs=1, facts=facts, teacher=fresh(seed=1))
        model = stage.run(stage.restructure(model, settings, around), settings, around)
        facts = around.facts
    return request.param, model, facts


def test_every_fact_still_holds_at_the_end(finished: Finished) -> None:
    order, model, facts = finished
    assert narrow.probe(model, facts["narrow"]) == []
    assert probe_fake_quant(model, facts["fake-quant"]) == []
    assert ("sparse" in facts) == ("magnitude" in order or "n-m" in order)
    if "sparse" in facts:
        assert probe_sparse(model, facts["sparse"]) == []


def test_a_saved_state_rebuilds_the_same_network(finished: Finished) -> None:
    order, model, facts = finished
    rebuilt = fresh(seed=9)
    for name in order:
        stage, settings = STAGES[name]
        rebuilt = stage.restructure(rebuilt, settings, context(facts=copy.deepcopy(facts)))
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(images()), model.eval()(images()))


@torch.no_grad()
def test_what_is_deployed_answers_like_what_was_trained(finished: Finished) -> None:
    order, model, _ = finished
    frozen = copy.deepcopy(model).eval()
    for name in order:
        frozen = STAGES[name][0].freeze(frozen)
    simulated, deployed = model.eval()(images(160)), frozen(images(160))
    assert (deployed - simulated).abs().max() < 0.05 * simulated.abs().max()


def asked(*stages: Any) -> Spec:
    spec = {
        "backbone": {"use": "resnet20", "width": 0.5},
        "dataset": "digits",
        "baseline": {"epochs": 1, "batch_size": 64},
        "stages": stages,
        "budget": {"epochs": len(stages)},
        "runtimes": ["onnxruntime"],
        "measure": ["accuracy", "macs", "sparsity"],
        "threads": 1,
        "max_disagreement": 0.1,
    }
    return Spec.model_validate(spec)


@pytest.mark.parametrize("order", itertools.permutations(["channel", "int8-qat", "logit-kd"]), ids="-".join)
def test_only_a_network_of_modules_can_be_narrowed(order: tuple[str, ...]) -> None:
    if order.index("channel") < order.index("int8-qat"):
        assert len(build_plan(asked(*order)).steps) == 4
        return
    with pytest.raises(PqdError) as error:
        build_plan(asked(*order))
    [problem] = error.value.problems
    assert "channel, needs a model that is plain-modules, which step" in problem.what
    assert problem.what.endswith("int8-qat, ended")
    assert " -> " in problem.hint


def test_a_narrowed_quantized_network_is_deployed_with_less_work(tmp_path: Path) -> None:
    spec = asked({"use": "channel", "macs": 0.6, "multiple": 8, "min_width": 8}, "int8-qat")
    report = run(spec, tmp_path / "run", store=tmp_path / "store")
    assert report.problems == []
    dense, narrowed, quantized = (row.value("macs") for row in report.rows)
    assert dense is not None
    assert narrowed == quantized
    assert 0.45 * dense < (narrowed or 0) <= 0.6 * dense


def test_a_share_that_cannot_be_reached_is_refused_before_the_baseline_is_trained(tmp_path: Path) -> None:
    with pytest.raises(PqdError, match=r"(?s)channel\.macs: .* ask for macs: 0\.\d+.*nothing has been trained"):
        run(asked({"use": "channel", "macs": 0.1}), tmp_path / "run", store=tmp_path / "store")
    assert not list((tmp_path / "store" / "steps").glob("*/*/manifest.json"))
