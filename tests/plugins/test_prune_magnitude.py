"""`magnitude` removes exactly what it is asked to, keeps it removed, and says which layer a glob missed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, LAYERS, context, network, zeros_of
from torch import Tensor, nn

from pqd_core import PqdError, StageContext, Training
from pqd_core.facts import probe_sparse
from pqd_prune import MagnitudeSettings, magnitude, pqd_stages
from pqd_prune.layers import weight_names


def pruned(model: nn.Module, around: StageContext | None = None, **settings: Any) -> dict[str, Tensor]:
    """The masks that `magnitude` leaves on `model`."""
    around = around or context(epochs=0)
    settings = {"training": BRIEF, **settings}
    magnitude.run(model, MagnitudeSettings(**settings), around)
    return around.facts["sparse"]


def count(masks: dict[str, Tensor]) -> tuple[int, int]:
    """Removed weights, and all."""
    return sum(int((~mask).sum()) for mask in masks.values()), sum(mask.numel() for mask in masks.values())


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.7, 0.913])
def test_the_global_scope_removes_exactly_the_asked_share_of_all_weights(sparsity: float) -> None:
    removed, total = count(pruned(network(), sparsity=sparsity))
    assert removed == round(sparsity * total)


@pytest.mark.parametrize("sparsity", [0.1, 0.7, 0.913])
def test_the_layer_scope_removes_exactly_the_asked_share_of_each_layer(sparsity: float) -> None:
    for mask in pruned(network(), sparsity=sparsity, scope="layer").values():
        assert int((~mask).sum()) == min(round(sparsity * mask.numel()), mask.numel() - 1)


def test_the_smallest_weights_go_and_the_others_are_untouched() -> None:
    model, before = network(), network()
    masks = pruned(model, sparsity=0.6)
    old = dict(before.named_parameters())
    largest_removed = max(float(old[name].detach()[~mask].abs().max()) for name, mask in masks.items())
    assert all(float(old[name].detach()[mask].abs().min()) >= largest_removed for name, mask in masks.items())
    for name, parameter in model.named_parameters():
        expected = old[name] * masks[name] if name in masks else old[name]
        assert torch.equal(parameter, expected), name


def test_of_equal_weights_the_earlier_go_first() -> None:
    weights = {"a": torch.ones(2, 3), "b": -torch.ones(4)}
    masks = magnitude.keep_largest(weights, {}, 0.5)
    assert masks["a"].tolist() == [[True, False, False], [False, False, False]]
    assert masks["b"].tolist() == [True, True, True, True]


def test_no_layer_goes_silent_even_where_all_its_weights_are_the_smallest() -> None:
    model = network()
    with torch.no_grad():
        model.conv2.weight.mul_(1e-6)
    masks = pruned(model, sparsity=0.95)
    kept = masks["conv2.weight"]
    assert int(kept.sum()) == 1
    assert model.conv2.weight.abs().argmax() == kept.flatten().int().argmax()
    removed, total = count(masks)
    assert removed == round(0.95 * total)


def test_a_share_that_would_empty_layers_stops_at_one_weight_each() -> None:
    removed, total = count(pruned(network(), sparsity=0.99999))
    assert removed == total - len(LAYERS)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_mask_survives_training(optimizer: Any) -> None:
    model, around = network(), context(epochs=2)
    training = Training(optimizer=optimizer, lr=0.01, momentum=0.9, weight_decay=0.01, batch_size=64, augment=False)
    masks = pruned(model, around, sparsity=0.7, training=training)
    assert probe_sparse(model, masks) == []
    assert len(around.history) == 2
    kept_moved = model.conv1.weight[masks["conv1.weight"]] != network().conv1.weight[masks["conv1.weight"]]
    assert kept_moved.float().mean() > 0.9


def test_a_second_pruning_starts_from_the_first() -> None:
    model, around = network(), context(epochs=0)
    first = pruned(model, around, sparsity=0.4)
    second = pruned(model, around, sparsity=0.8)
    assert all(not (mask & ~first[name]).any() for name, mask in second.items())
    removed, total = count(second)
    assert removed == round(0.8 * total)


def test_a_second_pruning_brings_nothing_back() -> None:
    model, around = network(), context(epochs=0)
    first = pruned(model, around, sparsity=0.8)
    second = pruned(model, around, sparsity=0.3)
    assert all(torch.equal(first[name], mask) for name, mask in second.items())


def test_a_second_pruning_of_other_layers_keeps_the_masks_of_the_first() -> None:
    model, around = network(), context(epochs=0)
    first = pruned(model, around, sparsity=0.5, include=["conv1"])
    both = pruned(model, around, sparsity=0.5, include=["conv2"])
    assert torch.equal(both["conv1.weight"], first["conv1.weight"])
    assert count(both)[0] == count(both)[1] / 2


@pytest.mark.parametrize("initial", [0.0, 0.2])
def test_the_gradual_schedule_is_the_paper_s_equation_1(initial: float) -> None:
    settings = MagnitudeSettings(sparsity=0.9, schedule="gradual", begin=0.1, end=0.8, interval=100)
    steps = magnitude.pruning_steps(2000, settings)
    start, last, between = 200, 1600, 100
    assert list(steps) == list(range(start, last + 1, between))
    n = (last - start) / between
    for i, step in enumerate(steps):
        by_the_paper = 0.9 + (initial - 0.9) * (1 - (step - start) / (n * between)) ** 3
        assert magnitude.cubic_sparsity(i / (len(steps) - 1), initial, 0.9) == pytest.approx(by_the_paper, abs=1e-12)


@pytest.mark.parametrize(("total", "begin", "end", "interval"), [(1, 0, 0.5, 10), (7, 0.9, 1, 3), (50, 0.2, 0.7, 9)])
def test_gradual_pruning_always_comes_to_its_end_within_the_training(
    total: int, begin: float, end: float, interval: int
) -> None:
    settings = MagnitudeSettings(schedule="gradual", begin=begin, end=end, interval=interval)
    steps = magnitude.pruning_steps(total, settings)
    assert len(steps) >= 2
    assert steps[-1] <= total


def test_gradual_pruning_removes_more_and_more_and_ends_at_the_asked_share(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    keep_largest = magnitude.keep_largest

    def watched(weights: Any, held: Any, sparsity: float) -> dict[str, Tensor]:
        shares.append(sparsity)
        return keep_largest(weights, held, sparsity)

    monkeypatch.setattr(magnitude, "keep_largest", watched)
    model = network()
    masks = pruned(model, context(epochs=2), sparsity=0.8, schedule="gradual", interval=2, end=1.0)
    assert shares == sorted(shares)
    assert len(shares) > 3
    assert shares[0] < 0.8 == shares[-1]
    removed, total = count(masks)
    assert removed == round(0.8 * total)
    assert probe_sparse(model, masks) == []


def test_gradual_pruning_without_epochs_prunes_at_once() -> None:
    removed, total = count(pruned(network(), sparsity=0.8, schedule="gradual"))
    assert removed == round(0.8 * total)


def test_excluded_layers_stay_whole() -> None:
    masks = pruned(network(), sparsity=0.5, include=["conv*", "head.*"], exclude=["conv2"])
    assert sorted(masks) == ["conv1.weight", "head.1.weight"]
    removed, total = count(masks)
    assert removed == round(0.5 * total)


def test_a_glob_that_fits_nothing_is_named_with_the_layers_there_are() -> None:
    with pytest.raises(PqdError) as error:
        pruned(network(), include=["conv*", "layer4.*"], exclude=["fc"])
    first, second = error.value.problems
    assert (first.where, second.where) == ("magnitude.include", "magnitude.exclude")
    assert "'layer4.*'" in first.what
    assert "'fc'" in second.what
    assert all(layer in first.hint for layer in LAYERS)


def test_excluding_everything_is_refused() -> None:
    with pytest.raises(PqdError, match="leave no layer"):
        pruned(network(), exclude=["*"])


def test_the_layers_of_a_traced_graph_have_the_names_of_its_modules() -> None:
    model = network()
    expected = weight_names(model)
    exported = torch.export.export(model, (torch.zeros(2, 1, 8, 8),)).module(check_guards=False)
    assert sorted(expected) == LAYERS
    assert weight_names(exported) == expected


def test_the_log_tells_the_share_of_each_layer() -> None:
    model, around = network(), context(epochs=0)
    pruned(model, around, sparsity=0.7)
    log: Any = around.log
    told = log.calls[-1].kwargs
    zeros = zeros_of(model)
    assert told["layers"] == {
        name.removesuffix(".weight"): round(float(zero.float().mean()), 4) for name, zero in sorted(zeros.items())
    }
    assert told["sparsity"] == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize(
    "settings", [{"sparsity": 0.0}, {"sparsity": 1.0}, {"sparsity": 1.5}, {"begin": 0.6, "end": 0.5}, {"interval": 0}]
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MagnitudeSettings(**settings)


def test_the_record_says_what_the_stage_needs_and_why_it_gains_no_latency() -> None:
    record = next(record for record in pqd_stages() if record.name == "magnitude")
    assert (record.name, record.kind, record.needs, record.given) == ("magnitude", "prune", ("trainable",), ("sparse",))
    assert "dense" in record.no_gain["latency_ms"]
    assert record.implementation() is magnitude
