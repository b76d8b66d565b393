"""All six orders of pruning, quantizing and distilling run, keep their promises and deploy what they trained."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from stage_kit import BRIEF, context, images, network
from torch import Tensor, nn

from pqd_core.facts import probe_fake_quant, probe_sparse
from pqd_distill import LogitKdSettings, logit_kd
from pqd_int8 import Int8QatSettings, int8_qat
from pqd_prune import MagnitudeSettings, magnitude

STAGES: dict[str, tuple[Any, Any]] = {
    "magnitude": (magnitude, MagnitudeSettings(sparsity=0.7, training=BRIEF)),
    "int8-qat": (int8_qat, Int8QatSettings(training=BRIEF, calibration_images=64)),
    "logit-kd": (logit_kd, LogitKdSettings(training=BRIEF)),
}
Order = tuple[str, ...]
Facts = dict[str, dict[str, Tensor]]


def run_in(order: Order) -> tuple[nn.Module, Facts]:
    model: nn.Module = network()
    facts: Facts = {}
    for name in order:
        stage, settings = STAGES[name]
        around = context(epochs=1, facts=facts)
        model = stage.run(stage.restructure(model, settings, around), settings, around)
        facts = around.facts
    return model, facts


def freeze_in(order: Order, model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model).eval()
    for name in order:
        model = STAGES[name][0].freeze(model)
    return model


@pytest.fixture(scope="module", params=list(itertools.permutations(STAGES)), ids="-".join)
def finished(request: pytest.FixtureRequest) -> tuple[Order, nn.Module, Facts]:
    """A network after all three stages; to look at, never to change."""
    return (request.param, *run_in(request.param))


Finished = tuple[Order, nn.Module, Facts]


def test_every_fact_still_holds_at_the_end(finished: Finished) -> None:
    _, model, facts = finished
    assert probe_sparse(model, facts["sparse"]) == []
    assert probe_fake_quant(model, facts["fake-quant"]) == []
    masks = facts["sparse"].values()
    assert sum(int((~mask).sum()) for mask in masks) == round(0.7 * sum(mask.numel() for mask in masks))
    assert len(facts["sparse"]) == 5


def test_the_int8_weights_hold_exactly_the_zeros_of_the_mask(finished: Finished) -> None:
    order, model, facts = finished
    frozen = freeze_in(order, model)
    integers = {tuple(t.shape): t for t in frozen.state_dict().values() if t.dtype == torch.int8}
    for name, mask in facts["sparse"].items():
        weight = integers[tuple(mask.shape)]
        assert not weight[~mask].any(), name
        rounded_to_zero = (weight[mask] == 0).float().mean()
        assert rounded_to_zero < 0.1, name


@torch.no_grad()
def test_what_is_deployed_answers_like_what_was_trained(finished: Finished) -> None:
    order, model, _ = finished
    simulated, deployed = model.eval()(images(160)), freeze_in(order, model)(images(160))
    assert (deployed - simulated).abs().max() < 0.05 * simulated.abs().max()
    assert (deployed - simulated).abs().median() < 1e-4 * simulated.abs().max()


def test_a_saved_state_rebuilds_the_same_network(finished: Finished) -> None:
    order, model, facts = finished
    rebuilt: nn.Module = network(seed=9)
    for name in order:
        stage, settings = STAGES[name]
        rebuilt = stage.restructure(rebuilt, settings, context(facts=copy.deepcopy(facts)))
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(images()), model.eval()(images()))
