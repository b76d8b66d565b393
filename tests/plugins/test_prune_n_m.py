"""`n-m` keeps at most N of every M weights along the input channels, the largest, and says which layers it left."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, context, images, network
from torch import Tensor, nn

from pqd_core import PqdError, StageContext
from pqd_core.facts import probe_sparse
from pqd_int8 import Int8QatSettings, int8_qat
from pqd_prune import MagnitudeSettings, NMSettings, magnitude, n_m, pqd_stages

GROUPED = ["conv1.weight", "conv2.weight", "head.1.weight", "shortcut.weight"]


def pruned(model: nn.Module, around: StageContext | None = None, **settings: Any) -> dict[str, Tensor]:
    """The masks that `n-m` leaves on `model`."""
    around = around or context(epochs=0)
    n_m.run(model, NMSettings(**{"training": BRIEF, **settings}), around)
    return around.facts["sparse"]


def kept_per_group(mask: Tensor, m: int) -> Tensor:
    """Kept weights of each group: for each output and place, each m input channels one after another."""
    return torch.stack([mask[:, i : i + m].sum(1) for i in range(0, mask.shape[1], m)])


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (5, 8)])
def test_exactly_n_of_every_m_input_channels_stay(n: int, m: int) -> None:
    masks = pruned(network(), n=n, m=m)
    assert sorted(masks) == GROUPED
    assert all((kept_per_group(mask, m) == n).all() for mask in masks.values())


def test_the_largest_of_each_group_stay_as_they_were() -> None:
    model, before = network(), dict(network().named_parameters())
    for name, mask in pruned(model).items():
        old, new = before[name].detach(), model.get_parameter(name).detach()
        assert torch.equal(new, old * mask)
        for out, first in itertools.product(range(len(old)), range(0, old.shape[1], 4)):
            group, kept = old[out, first : first + 4].abs(), mask[out, first : first + 4]
            smallest_kept = group.masked_fill(~kept, torch.inf).amin(0)
            assert (smallest_kept >= group.masked_fill(kept, 0).amax(0)).all()


def test_of_equal_weights_the_earlier_stays() -> None:
    assert n_m.keep(torch.ones(1, 4), None, 2, 4).tolist() == [[True, True, False, False]]


def test_a_layer_without_groups_is_left_whole_and_named() -> None:
    model, around = network(), context(epochs=0)
    pruned(model, around)
    log: Any = around.log
    assert log.calls[0].kwargs == {"m": 4, "input_channels": {"stem.0": 1}}
    assert (model.stem[0].weight != 0).all()


def test_a_network_without_any_group_is_refused_before_training() -> None:
    around = context()
    with pytest.raises(PqdError) as error:
        pruned(network(), around, m=5)
    assert error.value.problems[0].where == "n-m.m"
    assert "conv1" in error.value.problems[0].what
    assert around.history == []


@pytest.mark.parametrize("schedule", ["one-shot", "gradual"])
def test_the_pattern_survives_training(schedule: str) -> None:
    model, around = network(), context(epochs=2)
    masks = pruned(model, around, schedule=schedule)
    assert probe_sparse(model, masks) == []
    assert all((kept_per_group(mask, 4) == 2).all() for mask in masks.values())
    assert len(around.history) == 2


def test_gradual_pruning_takes_one_weight_more_at_a_time_and_ends_at_n() -> None:
    settings = NMSettings(n=1, m=4, schedule="gradual", begin=0.2, end=0.6)
    assert n_m.pruning_steps(100, settings) == {20: 3, 40: 2, 60: 1}
    assert n_m.pruning_steps(1, settings) == {1: 1}
    assert n_m.pruning_steps(10, NMSettings(n=3, m=4, begin=0.5, end=1.0)) == {5: 3}


@pytest.mark.parametrize("total", [1, 2, 3, 7, 50])
@pytest.mark.parametrize(("begin", "end"), [(0, 0.01), (0, 0.5), (0.5, 1)])
def test_gradual_pruning_always_comes_to_its_end_within_the_training(total: int, begin: float, end: float) -> None:
    steps = n_m.pruning_steps(total, NMSettings(n=1, m=8, begin=begin, end=end))
    assert 1 <= max(steps) <= total
    assert steps[max(steps)] == 1


def test_what_magnitude_pruned_stays_pruned_and_counts() -> None:
    model, around = network(), context(epochs=0)
    magnitude.run(model, MagnitudeSettings(sparsity=0.8, scope="layer", training=BRIEF), around)
    first = dict(around.facts["sparse"])
    both = pruned(model, around)
    assert sorted(both) == sorted(first)
    assert all(not (both[name] & ~first[name]).any() for name in both)
    for name in GROUPED:
        assert torch.equal(kept_per_group(both[name], 4), kept_per_group(first[name], 4).clamp(max=2))


def test_the_pattern_reaches_the_int8_weights() -> None:
    model, around = network(), context(epochs=1)
    pruned(model, around)
    settings = Int8QatSettings(training=BRIEF, calibration_images=64)
    graph = int8_qat.run(int8_qat.restructure(model, settings, around), settings, around)
    assert probe_sparse(graph, around.facts["sparse"]) == []
    frozen = int8_qat.freeze(graph)
    integers = [
        t for t in frozen.state_dict().values() if t.dtype == torch.int8 and t.dim() > 1 and t.shape[1] % 4 == 0
    ]
    assert len(integers) == len(GROUPED)
    assert all((kept_per_group(weight != 0, 4) <= 2).all() for weight in integers)
    assert frozen(images(4)).shape == (4, 10)


@pytest.mark.parametrize("settings", [{"n": 4}, {"n": 0}, {"m": 1}, {"begin": 0.6, "end": 0.5}, {"sparsity": 0.5}])
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NMSettings(**settings)


def test_the_record_says_what_the_stage_needs_and_gives() -> None:
    record = next(record for record in pqd_stages() if record.name == "n-m")
    assert (record.kind, record.needs, record.given) == ("prune", ("trainable",), ("sparse",))
    assert record.implementation() is n_m
