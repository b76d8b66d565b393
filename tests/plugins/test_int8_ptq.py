"""`int8-ptq` calibrates and trains nothing, and its four ways to a range do what they are called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from stage_kit import BRIEF, context, digits, images, network
from torch import Tensor, nn

from pqd_core import PqdError
from pqd_core.facts import probe_fake_quant, probe_sparse
from pqd_core.plan import build_plan
from pqd_core.testing import toy_host, toy_spec
from pqd_distill import LogitKdSettings, logit_kd
from pqd_int8 import Int8PtqSettings, int8_ptq
from pqd_int8.calibrate import least_error_ends, percentile_ends
from pqd_int8.fake_quant import ActivationFakeQuant, grid
from pqd_prune import MagnitudeSettings, magnitude

FULL = Int8PtqSettings(weight_range="full", calibration_images=320)


def quantized(**changes: Any) -> nn.Module:
    """The small network after the stage."""
    settings, around = FULL.model_copy(update=changes), context(epochs=0)
    return int8_ptq.run(int8_ptq.restructure(network(), settings, around), settings, around)


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(images())


def input_range(model: nn.Module) -> tuple[float, float]:
    """Where the grid of the images begins and ends."""
    part = next(part for part in model.modules() if isinstance(part, ActivationFakeQuant))
    step, zero = float(part.scale), int(part.zero_point)
    return -zero * step, (255 - zero) * step


def test_no_parameter_and_no_statistic_changes() -> None:
    before, model = network(), quantized()
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert probe_fake_quant(model, {}) == []
    error = (logits(model) - logits(before)).abs().max() / logits(before).abs().max()
    assert 0 < error < 0.1


def test_a_saved_state_rebuilds_the_same_network_and_the_frozen_one_answers_alike() -> None:
    model, around = quantized(), context(epochs=0)
    rebuilt = int8_ptq.restructure(network(seed=5), FULL, around)
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits(rebuilt), logits(model))
    frozen = int8_ptq.freeze(copy.deepcopy(rebuilt))
    assert (logits(frozen) - logits(model)).abs().max() < 0.02 * logits(model).abs().max()


def test_each_observer_finds_its_own_range() -> None:
    pixels = (torch.from_numpy(digits().train.images).float() / 255 - 0.3) / 0.35
    widest = input_range(quantized(observer="min-max"))
    assert widest == pytest.approx((float(pixels.min()), float(pixels.max())), abs=0.02)
    narrower = input_range(quantized(observer="percentile", percentile=90))
    assert narrower[1] < widest[1] - 0.05
    assert input_range(quantized(observer="percentile", percentile=100)) == pytest.approx(widest, abs=0.02)


def test_a_percentile_leaves_its_share_out_at_each_end() -> None:
    values = torch.linspace(-1, 3, 100_001)
    histogram = torch.histc(values, 2048, -1, 3)
    low, high = percentile_ends(histogram, values.min(), values.max(), 99)
    assert (float(low), float(high)) == pytest.approx((-0.96, 2.96), abs=0.005)
    whole = percentile_ends(histogram, values.min(), values.max(), 100)
    assert tuple(map(float, whole)) == pytest.approx((-1, 3), abs=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_least_error_cuts_outliers_off_and_errs_less_than_the_widest_range(symmetric: bool, sign: int) -> None:
    torch.manual_seed(0)
    values = sign * torch.cat([torch.randn(2_000_000), torch.tensor([40.0])])
    low, high = values.min(), values.max()
    ends = least_error_ends(torch.histc(values, 2048, float(low), float(high)), low, high, symmetric)
    assert max(abs(float(end)) for end in ends) < 20

    def error(low: Tensor, high: Tensor) -> float:
        step, zero = grid(low, high, symmetric)
        return float(((values / step).round().clamp(-zero, 255 - zero) * step - values).square().mean())

    assert error(*ends) < 0.5 * error(low, high)


def test_least_error_keeps_what_has_no_outliers() -> None:
    values = torch.linspace(0, 5, 10_000)
    low, high = least_error_ends(torch.histc(values, 2048, 0, 5), values.min(), values.max(), False)
    assert (float(low), float(high)) == pytest.approx((0, 5), abs=0.1)


def test_a_later_stage_trains_on_and_the_ranges_keep_the_share_that_was_chosen() -> None:
    model = quantized(observer="percentile", percentile=95)
    parts = [part for part in model.modules() if isinstance(part, ActivationFakeQuant)]
    kept = [part.kept.clone() for part in parts]
    before = [part.extremes.clone() for part in parts]
    assert any(not torch.equal(share, torch.ones(2)) for share in kept)
    around = context(epochs=1)
    settings = LogitKdSettings(training=BRIEF)
    logit_kd.run(logit_kd.restructure(model, settings, around), settings, around)
    assert all(torch.equal(part.kept, share) for part, share in zip(parts, kept, strict=True))
    assert any(not torch.equal(part.extremes, end) for part, end in zip(parts, before, strict=True))
    for part in parts:
        group = [member for member in part.stream if torch.equal(member.group, part.group)]
        steps = [grid(*(member.extremes * member.kept), symmetric=False)[0] for member in group]
        assert float(part.scale) == pytest.approx(float(max(steps)))


def test_a_pruned_network_stays_pruned() -> None:
    around = context(epochs=0)
    pruned = magnitude.run(network(), MagnitudeSettings(sparsity=0.7, training=BRIEF), around)
    model = int8_ptq.run(int8_ptq.restructure(pruned, FULL, around), FULL, around)
    assert probe_sparse(model, around.facts["sparse"]) == []
    integers = {tuple(t.shape): t for t in int8_ptq.freeze(model).state_dict().values() if t.dtype == torch.int8}
    for name, mask in around.facts["sparse"].items():
        assert not integers[tuple(mask.shape)][~mask].any(), name


def test_an_activation_that_is_not_finite_is_reported() -> None:
    model = network()
    with torch.no_grad():
        model.conv1.bias[0] = torch.nan
    around = context(epochs=0)
    with pytest.raises(FloatingPointError, match="no longer finite"):
        int8_ptq.run(int8_ptq.restructure(model, FULL, around), FULL, around)


def test_it_takes_no_share_of_the_budget() -> None:
    import pqd_int8
    import pqd_prune
    from pqd_core.host.read_spec import parse_spec

    host = toy_host(pqd_int8, pqd_prune)
    stages: list[Any] = ["magnitude", "int8-ptq", "toy-tune"]
    spec = parse_spec(toy_spec(stages=stages, budget={"epochs": 9, "split": [1, 2]}), host)
    assert [step.epochs for step in build_plan(spec, host).steps] == [2, 3, 0, 6]
    with pytest.raises(PqdError, match=r"stages\.1\.int8-ptq\.epochs: .*does not train; leave epochs out"):
        parse_spec(toy_spec(stages=["magnitude", {"use": "int8-ptq", "epochs": 3}]), host)
    with pytest.raises(PqdError, match=r"each of the 2 stages that train"):
        parse_spec(toy_spec(stages=stages, budget={"split": [1, 2, 3]}), host)
