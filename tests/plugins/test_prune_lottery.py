"""`lottery` prunes in rounds and goes back: to the weights before training, or to the peak of the learning rate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, context, network
from torch import Tensor, nn

from pqd_core import PqdError, StageContext, run
from pqd_core.facts import probe_sparse
from pqd_core.host.read_spec import parse_spec
from pqd_core.testing import toy_host, toy_spec
from pqd_int8 import Int8QatSettings, int8_qat
from pqd_prune import LotterySettings, lottery, pqd_stages


def drawn(model: nn.Module, around: StageContext, **settings: Any) -> dict[str, Tensor]:
    """The masks that `lottery` leaves on `model`."""
    lottery.run(model, LotterySettings(**{"training": BRIEF, **settings}), around)
    return around.facts["sparse"]


def share(masks: dict[str, Tensor]) -> float:
    """Removed weights among all."""
    return sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


class Watched:
    """What `fit` was given, in place of training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[int, dict[str, Tensor]]] = []
        monkeypatch.setattr(lottery, "fit", self)

    def __call__(self, model: nn.Module, context: StageContext, training: Any) -> nn.Module:
        self.calls.append((context.epochs, copy.deepcopy(model.state_dict())))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.sign(parameter) * 0.01)
        return model


def test_each_round_removes_the_same_share_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    masks = drawn(network(), context(epochs=3), sparsity=0.784, rounds=3)
    assert [epochs for epochs, _ in watched.calls] == [1, 1, 1]
    kept = [
        sum(int((state[name] != 0).sum()) for name in masks) / sum(mask.numel() for mask in masks.values())
        for _, state in watched.calls
    ]
    assert kept == pytest.approx([0.6, 0.36, 0.216], abs=0.002)
    assert share(masks) == pytest.approx(0.784, abs=0.002)


def test_weights_go_back_to_where_training_started_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, initial = Watched(monkeypatch), network(seed=7)
    masks = drawn(network(), context(epochs=4, initial=initial), rounds=2, rewind="weights")
    start = initial.state_dict()
    assert [epochs for epochs, _ in watched.calls] == [2, 2]
    for _, state in watched.calls:
        for name, tensor in state.items():
            kept = state[name] != 0 if name in masks else torch.ones_like(tensor, dtype=torch.bool)
            assert torch.equal(tensor[kept], start[name][kept]), name


def test_the_learning_rate_alone_goes_back_if_weights_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, model = Watched(monkeypatch), network()
    before = copy.deepcopy(model.state_dict())
    masks = drawn(model, context(epochs=2), rounds=2)
    first, second = (state for _, state in watched.calls)
    for name, mask in masks.items():
        assert torch.equal(first[name][mask], before[name][mask])
        assert torch.allclose(second[name][mask], (before[name] + torch.sign(before[name]) * 0.01)[mask])


def test_weights_can_go_back_to_an_early_point_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, initial = Watched(monkeypatch), network(seed=7)
    start = copy.deepcopy(initial.state_dict())
    drawn(network(), context(epochs=5, initial=initial), rounds=2, rewind="weights", rewind_epochs=1)
    assert [epochs for epochs, _ in watched.calls] == [1, 2, 2]
    early, first = watched.calls[0][1], watched.calls[1][1]
    assert all(torch.equal(tensor, start[name]) for name, tensor in early.items())
    moved = start["bn1.weight"] + torch.sign(start["bn1.weight"]) * 0.01
    assert torch.equal(first["bn1.weight"], moved)


def test_what_is_pruned_follows_the_trained_weights_and_not_the_rewound_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    Watched(monkeypatch)
    model = network()
    largest = model.conv1.weight.detach().abs().flatten().topk(5).indices
    masks = drawn(model, context(epochs=1), sparsity=0.9, rounds=1, rewind="weights", include=["conv1"])
    assert masks["conv1.weight"].flatten()[largest].all()


@pytest.mark.parametrize("rewind", ["weights", "learning-rate"])
def test_masks_survive_real_training(rewind: str) -> None:
    model, around = network(), context(epochs=3)
    masks = drawn(model, around, sparsity=0.7, rounds=2, rewind=rewind)
    assert probe_sparse(model, masks) == []
    assert share(masks) == pytest.approx(0.7, abs=0.002)
    assert len(around.history) == 3


@pytest.mark.parametrize(("epochs", "rounds", "shares"), [(5, 2, [2, 3]), (2, 5, [1, 1]), (0, 3, [0]), (3, 1, [3])])
def test_rounds_share_the_epochs_and_are_never_more(epochs: int, rounds: int, shares: list[int]) -> None:
    assert lottery.share_epochs(epochs, rounds) == shares


def test_without_epochs_it_prunes_once_and_nothing_goes_back() -> None:
    model, before = network(), network().state_dict()
    masks = drawn(model, context(epochs=0), sparsity=0.5, rewind="weights")
    assert all(torch.equal(model.get_parameter(name)[mask], before[name][mask]) for name, mask in masks.items())
    assert share(masks) == pytest.approx(0.5, abs=0.002)


def test_a_quantized_network_goes_back_too() -> None:
    around, settings = context(epochs=0), Int8QatSettings(training=BRIEF, calibration_images=64)
    graph = int8_qat.run(int8_qat.restructure(network(), settings, around), settings, around)
    later = context(epochs=2, facts=around.facts)
    masks = drawn(graph, later, rewind="weights", rounds=1)
    assert probe_sparse(graph, masks) == []


def test_a_network_of_another_shape_cannot_go_back() -> None:
    around = context(initial=network(width=16))
    with pytest.raises(PqdError) as error:
        drawn(network(), around, rewind="weights")
    assert error.value.problems[0].where == "lottery.rewind"
    assert around.history == []


def test_early_training_must_leave_epochs_for_the_stage() -> None:
    with pytest.raises(PqdError, match="leave nothing"):
        drawn(network(), context(epochs=2), rewind="weights", rewind_epochs=2)


def test_the_initial_network_of_a_run_is_the_one_that_the_baseline_started_from(tmp_path: Path) -> None:
    import pqd_prune

    host = toy_host(pqd_prune)
    stages = [{"use": "lottery", "rewind": "weights", "rounds": 1, "epochs": 1, "training": {"lr": 1e-12}}]
    spec = parse_spec(toy_spec(stages=stages, baseline={"epochs": 1, "batch_size": 32, "augment": False}), host)
    untrained = parse_spec(toy_spec(stages=[], baseline={"epochs": 0}), host)
    ticket, start = (weights(each, host, tmp_path / name) for each, name in ((spec, "a"), (untrained, "b")))
    kept = ticket["conv.weight"] != 0
    assert 0 < kept.sum() < kept.numel()
    assert torch.allclose(ticket["conv.weight"][kept], start["conv.weight"][kept], atol=1e-6)


def weights(spec: Any, host: Any, folder: Path) -> dict[str, Tensor]:
    from pqd_core.artifact import Store
    from pqd_core.plan import build_plan

    run(spec, folder / "run", store=folder / "store", host=host)
    artifact = Store(folder / "store").find("steps", build_plan(spec, host).steps[-1].key)
    assert artifact is not None
    return artifact.tensors("weights.safetensors")


@pytest.mark.parametrize("settings", [{"sparsity": 1}, {"rounds": 0}, {"rewind": "all"}, {"rewind_epochs": -1}])
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LotterySettings(**settings)


def test_the_record_says_what_the_stage_needs_and_gives() -> None:
    record = next(record for record in pqd_stages() if record.name == "lottery")
    assert (record.kind, record.needs, record.given) == ("prune", ("trainable",), ("sparse",))
    assert record.implementation() is lottery
