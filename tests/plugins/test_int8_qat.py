"""`int8-qat` simulates what it deploys, is rebuilt to the last bit, and refuses what it cannot trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stage_kit import BRIEF, LAYERS, SmallResidual, context, digits, images, network
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_core import Arrays, Data, PqdError, StageContext, fit
from pqd_core.facts import probe_fake_quant, probe_plain_modules, probe_trainable
from pqd_int8 import Int8QatSettings, calibrate, int8_qat, pqd_stages
from pqd_int8.fake_quant import ActivationFakeQuant

FULL = Int8QatSettings(weight_range="full", training=BRIEF)


def quantized(model: nn.Module, around: StageContext, settings: Int8QatSettings = FULL) -> nn.Module:
    """`model` after the stage."""
    return int8_qat.run(int8_qat.restructure(model, settings, around), settings, around)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, StageContext]:
    """A network after two epochs of the stage; to look at, never to change."""
    around = context(epochs=2)
    return quantized(network(), around), around


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(images())


def int8_weights(frozen: nn.Module) -> dict[tuple[int, ...], Tensor]:
    """The int8 tensors of a frozen graph by shape; the small network has no shape twice."""
    return {tuple(t.shape): t for t in frozen.state_dict().values() if t.dtype == torch.int8}


def test_the_graph_trains_under_the_old_names(trained: tuple[nn.Module, StageContext]) -> None:
    model, around = trained
    assert dict(model.named_parameters()).keys() == dict(network().named_parameters()).keys()
    assert probe_trainable(model, {}) == []
    assert probe_fake_quant(model, around.facts["fake-quant"]) == []
    assert probe_plain_modules(model, {}) != []
    assert around.facts["fake-quant"]["weight_range"].tolist() == [-127, 127]
    assert around.history[1]["loss"] < around.history[0]["loss"]


def test_a_saved_state_rebuilds_the_same_network(trained: tuple[nn.Module, StageContext]) -> None:
    model, around = trained
    rebuilt = int8_qat.restructure(network(seed=5), FULL, context(facts=copy.deepcopy(around.facts)))
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert {name: t.shape for name, t in rebuilt.state_dict().items()} == {name: t.shape for name, t in saved.items()}
    rebuilt.load_state_dict(saved, strict=True)
    assert torch.equal(logits(rebuilt), logits(model))
    frozen, again = int8_qat.freeze(copy.deepcopy(model)), int8_qat.freeze(rebuilt)
    assert torch.equal(logits(frozen), logits(again))


def test_no_two_names_share_a_tensor(trained: tuple[nn.Module, StageContext]) -> None:
    tensors = [t for t in trained[0].state_dict().values() if t.numel()]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == len(tensors)


def test_a_copy_is_the_same_network_and_its_own(trained: tuple[nn.Module, StageContext]) -> None:
    model, _ = trained
    before = logits(model)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), before)
    fit(twin, context(epochs=1), BRIEF)
    int8_qat.freeze(twin)
    assert torch.equal(logits(model), before)


def test_the_frozen_graph_computes_what_was_simulated(trained: tuple[nn.Module, StageContext]) -> None:
    model, _ = trained
    frozen = int8_qat.freeze(copy.deepcopy(model))
    simulated, deployed = logits(model), logits(frozen)
    # A sum that lies between two grid points may round either way, by one step of the activation it makes.
    assert (deployed - simulated).abs().max() < 0.02 * simulated.abs().max()
    assert (deployed - simulated).abs().median() < 1e-5
    assert torch.equal(deployed.argmax(1), simulated.argmax(1))


def test_the_frozen_graph_holds_int8_weights_and_no_batch_norm(trained: tuple[nn.Module, StageContext]) -> None:
    frozen = int8_qat.freeze(copy.deepcopy(trained[0]))
    weights = int8_weights(frozen)
    assert {(8, 1, 3, 3), (16, 8, 3, 3), (16, 16, 3, 3), (16, 8, 1, 1), (10, 16)} <= weights.keys()
    assert all(int(weight.abs().max()) == 127 for weight in weights.values())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in frozen.modules())
    assert not frozen.training


@pytest.mark.parametrize("count", [1, 3, 32])
def test_the_frozen_graph_takes_any_batch(trained: tuple[nn.Module, StageContext], count: int) -> None:
    frozen = int8_qat.freeze(copy.deepcopy(trained[0]))
    assert frozen(images(count)).shape == (count, 10)


def test_the_integers_of_a_weight_are_those_that_were_trained(trained: tuple[nn.Module, StageContext]) -> None:
    model, _ = trained
    weights = int8_weights(int8_qat.freeze(copy.deepcopy(model)))
    for layer, norm in [("stem.0", "stem.1"), ("conv1", "bn1"), ("conv2", "bn2"), ("shortcut", None), ("head.1", None)]:
        weight = model.get_parameter(f"{layer}.weight").detach()
        broadcast = (-1, *[1] * (weight.dim() - 1))
        step = (weight.abs().flatten(1).amax(1) / 127).view(broadcast)
        sign = model.get_parameter(f"{norm}.weight").detach().sign().view(broadcast) if norm else 1
        assert torch.equal(weights[tuple(weight.shape)], (sign * (weight / step).round()).to(torch.int8)), layer


def test_without_epochs_the_ranges_are_calibrated_and_the_weights_stay() -> None:
    before, around = network(), context(epochs=0)
    model = quantized(network(), around)
    for name, parameter in before.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    for name, statistics in before.named_buffers():
        assert torch.equal(statistics, model.get_buffer(name)), name
    error = (logits(model) - logits(before)).abs().max() / logits(before).abs().max()
    assert 0 < error < 0.1


def test_calibration_averages_the_extremes_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "CALIBRATION_BATCH", 80)
    around = context(epochs=0)
    model = quantized(network(), around, FULL.model_copy(update={"calibration_images": 320}))
    order = torch.randperm(320, generator=torch.Generator().manual_seed(around.seed))
    pixels = (torch.from_numpy(digits().train.images[order.numpy()]).float() / 255 - 0.3) / 0.35
    first = next(part for part in model.modules() if isinstance(part, ActivationFakeQuant))
    expected = torch.stack([batch.max() for batch in pixels.split(80)]).mean()
    assert float(first.extremes[1]) == pytest.approx(float(expected), rel=1e-5)


def ranges(model: nn.Module) -> list[float]:
    parts = [part for part in model.modules() if isinstance(part, ActivationFakeQuant)]
    return [float(part.extremes[1]) for part in parts]


def test_images_that_are_only_measured_on_teach_nothing(trained: tuple[nn.Module, StageContext]) -> None:
    model = copy.deepcopy(trained[0]).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(100 * images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_ranges_and_statistics_stand_still_once_settled_and_move_again_in_a_later_stage() -> None:
    around = context(epochs=0)
    model = quantized(network(), around)
    around.epochs = 2
    seen: list[tuple[list[float], Tensor]] = []

    def look(done: int, total: int) -> None:
        seen.append((ranges(model), model.get_buffer("bn1.running_mean").clone()))

    fit(model, around, BRIEF, on_step=[int8_qat.settle_late(model, 0.5, (ActivationFakeQuant, _BatchNorm)), look])
    (before, at, after) = seen[3], seen[4], seen[-1]
    assert before[0] != at[0] == after[0]
    assert not torch.equal(before[1], at[1])
    assert torch.equal(at[1], after[1])
    fit(model, around, BRIEF, on_step=[look])
    assert seen[-1][0] != after[0]
    assert not torch.equal(seen[-1][1], after[1])


def test_layers_kept_float_stay_float() -> None:
    settings = FULL.model_copy(update={"exclude": ("stem.*", "head.1")})
    frozen = int8_qat.freeze(quantized(network(), context(epochs=0), settings))
    assert {(8, 1, 3, 3), (10, 16)}.isdisjoint(int8_weights(frozen))
    assert {(16, 8, 3, 3), (16, 16, 3, 3)} <= int8_weights(frozen).keys()
    assert frozen(images()).shape == (32, 10)


def test_a_glob_that_fits_nothing_is_named_with_the_layers_there_are() -> None:
    with pytest.raises(PqdError) as error:
        int8_qat.restructure(network(), FULL.model_copy(update={"exclude": ("fc",)}), context())
    [problem] = error.value.problems
    assert problem.where == "int8-qat.exclude"
    assert "'fc'" in problem.what
    assert all(layer in problem.hint for layer in LAYERS)


def test_excluding_everything_is_refused() -> None:
    with pytest.raises(PqdError, match="leave no layer"):
        int8_qat.restructure(network(), FULL.model_copy(update={"exclude": ("*",)}), context())


def test_a_batch_norm_keeps_its_own_eps() -> None:
    model = network(eps=0.1)
    error = (logits(quantized(network(eps=0.1), context(epochs=0))) - logits(model)).abs().max()
    assert error < 0.1 * logits(model).abs().max()
    frozen = int8_qat.freeze(quantized(network(eps=0.1), context(epochs=0)))
    assert (logits(frozen) - logits(model)).abs().max() < 0.1 * logits(model).abs().max()


class Judging(SmallResidual):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


class OnlyPairs(SmallResidual):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.view(2, 1, 8, 8))


@pytest.mark.parametrize("build", [Judging, OnlyPairs])
def test_a_network_that_cannot_be_traced_is_refused_with_a_reason(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(PqdError) as error:
        int8_qat.restructure(build(), FULL, context())
    [problem] = error.value.problems
    assert problem.where == f"int8-qat: {build.__name__}"  # type: ignore[attr-defined]
    assert "cannot trace" in problem.what
    assert len(problem.what) > 80
    assert "\n" not in problem.what
    assert "batch size" in problem.hint


def test_a_diverging_network_says_so() -> None:
    around = context(epochs=1)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        quantized(network(), around, FULL.model_copy(update={"training": BRIEF.model_copy(update={"lr": 1e6})}))


def test_map_style_datasets_are_calibrated_on_too() -> None:
    arrays = digits()

    class Mapped:
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.from_numpy(arrays.train.images[index]).float() / 255, int(arrays.train.labels[index])

    data = Data(arrays.info, Mapped(), Arrays(arrays.test.images, arrays.test.labels))
    model = quantized(network(), context(epochs=0, data=data))
    assert all(0 < end < 100 for end in ranges(model))


def test_the_record_says_what_the_stage_needs_and_ends() -> None:
    record, _ = pqd_stages()
    assert (record.name, record.kind) == ("int8-qat", "quantize")
    assert record.needs == ("trainable", "plain-modules")
    assert record.after(frozenset({"trainable", "plain-modules", "sparse"})) == {"trainable", "sparse", "fake-quant"}
    assert record.implementation() is int8_qat


def test_autocast_leaves_the_grids_in_float32(trained: tuple[nn.Module, StageContext]) -> None:
    model: Any = copy.deepcopy(trained[0]).train()
    with torch.autocast("cpu", torch.bfloat16):
        model(images()).float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(end == end for end in ranges(model))
