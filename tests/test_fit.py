from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from bench import Bench
from torch import Tensor, nn

from pqd_core import Batch, Data, StageContext, Training, fit, task_loss
from pqd_core.artifact import Store
from pqd_core.context import RunContext
from pqd_core.facts import FACTS
from pqd_core.fit import make_optimizer, make_schedule
from pqd_core.plan import build_plan
from pqd_core.task import CLASSIFICATION
from pqd_core.testing.toys import ToyNet

QUICK = Training(lr=0.05, batch_size=32, augment=False)


@pytest.fixture
def context(bench: Bench) -> Callable[..., StageContext]:
    def make(epochs: int = 2, **changes: Any) -> StageContext:
        spec = bench.spec(stages=[{"use": "nudge", "epochs": epochs}], **changes)
        run = RunContext(build_plan(spec, bench.host), Store(bench.folder / "store"), bench.host)
        return run.stage_context(run.plan.steps[1], {})

    return make


def net(seed: int = 0) -> ToyNet:
    torch.manual_seed(seed)
    return ToyNet(1, 3)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def accuracy(model: nn.Module, context: StageContext) -> float:
    from pqd_core import eval_batches

    hits = [(model(b.inputs).argmax(1) == b.targets) for b in eval_batches(context.data.test, context.info, 32)]
    return float(torch.cat(hits).float().mean())


# --- what training does


def test_training_learns(context: Any) -> None:
    here = context(epochs=3)
    before = accuracy(net().eval(), here)
    after = accuracy(fit(net(), here, QUICK), here)
    assert before < 0.7
    assert after > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(context: Any) -> None:
    first, second = (state(fit(net(), context(), QUICK)) for _ in range(2))
    assert same(first, second)
    assert not same(first, state(fit(net(), context(seed=1), QUICK)))


def test_the_trained_model_is_the_given_one_on_the_cpu_and_in_eval_mode(context: Any) -> None:
    model = net()
    trained = fit(model, context(), QUICK)
    assert trained is model
    assert not model.training
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_zero_epochs_change_nothing(context: Any) -> None:
    here, model = context(epochs=0), net()
    before = state(model)
    assert same(before, state(fit(model, here, QUICK)))
    assert here.history == []


def test_the_history_tells_each_epochs_loss_accuracy_and_rate(context: Any) -> None:
    here = context(epochs=3)
    fit(net(), here, QUICK)
    assert [entry["epoch"] for entry in here.history] == [1, 2, 3]
    assert here.history[0]["loss"] > here.history[2]["loss"]
    assert here.history[2]["train_accuracy"] > 0.9
    assert here.history[0]["lr"] == QUICK.lr
    assert all(entry["seconds"] > 0 for entry in here.history)


def test_progress_counts_the_images(context: Any) -> None:
    seen: list[int] = []
    here = context(epochs=2)
    here.progress = seen.append
    fit(net(), here, QUICK)
    assert sum(seen) == 2 * 6 * 32, "216 training images in batches of 32, the incomplete one dropped"


def test_callbacks_come_before_each_epoch_and_after_each_step(context: Any) -> None:
    calls: list[Any] = []
    fit(net(), context(), QUICK, on_epoch=[lambda e: calls.append(e)], on_step=[lambda d, t: calls.append((d, t))])
    steps = [(done, 12) for done in range(1, 13)]
    assert calls == [0, *steps[:6], 1, *steps[6:]]


def test_a_loss_of_ones_own_is_minimized(context: Any) -> None:
    def to_class_two(logits: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(logits, torch.full_like(batch.targets, 2))

    here = context(epochs=3)
    model = fit(net(), here, QUICK, loss=to_class_two)
    from pqd_core import eval_batches

    for batch in eval_batches(here.data.test, here.info, 32):
        assert (model(batch.inputs).argmax(1) == 2).all()


def test_label_smoothing_reaches_the_loss() -> None:
    logits, batch = torch.tensor([[4.0, 0.0]]), Batch(torch.zeros(1), torch.tensor([0]))
    expected = nn.functional.cross_entropy(logits, batch.targets, label_smoothing=0.2)
    assert task_loss(CLASSIFICATION, 0.2)(logits, batch) == expected
    assert task_loss(CLASSIFICATION)(logits, batch) < expected


def test_facts_hold_after_every_step_and_not_only_at_the_end(context: Any) -> None:
    here, model = context(epochs=1), net()
    mask = torch.arange(72).view(8, 1, 3, 3) % 2 == 0
    here._known_facts = FACTS
    here.give("sparse", {"conv.weight": mask})
    leaks: list[int] = []

    def look(done: int, total: int) -> None:
        held = model.conv.weight[~mask]
        leaks.append(int((held != 0).sum()))

    fit(model, here, QUICK, on_step=[look])
    fit_again = Training(lr=0.05, batch_size=32, augment=False, momentum=0.9, weight_decay=0.1)
    fit(model, here, fit_again)
    assert int((model.conv.weight[~mask] != 0).sum()) == 0
    assert int((model.conv.weight[mask] == 0).sum()) == 0
    assert max(leaks) > 0, "the optimizer moves pruned weights; it is `fit` that brings them back"


def test_frozen_parameters_stay_as_they_are(context: Any) -> None:
    model = net()
    model.conv.requires_grad_(False)
    before = state(model)
    after = state(fit(model, context(), QUICK))
    assert torch.equal(before["conv.weight"], after["conv.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_loss_that_is_no_longer_finite_stops_the_training_with_advice(context: Any) -> None:
    with pytest.raises(FloatingPointError, match="the loss is not finite in epoch 1; lower the learning rate"):
        fit(net(), context(), Training(lr=1e30, batch_size=32))


class FromDisk:
    """The toy images, one by one, normalized, as an image folder gives them."""

    def __init__(self, whole: Any, info: Any) -> None:
        self.whole, self.info, self.targets = whole, info, whole.labels

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        from pqd_core.batches import normalize

        return normalize(torch.from_numpy(self.whole.images[index][None]), self.info)[0], int(self.targets[index])


def test_images_from_disk_train_to_the_same_weights_as_images_in_memory(context: Any) -> None:
    here, there = context(), context()
    data = there.data
    mapped = Data(data.info, FromDisk(data.train, data.info), data.test)
    there._open_data = lambda: mapped
    in_memory, from_disk = (state(fit(net(), c, evolve_training(workers=0))) for c in (here, there))
    assert all(torch.allclose(in_memory[name], from_disk[name], atol=1e-6) for name in in_memory)


def evolve_training(**changes: Any) -> Training:
    return QUICK.model_copy(update=changes)


# --- optimizers and schedules


def rates(training: Training, steps: int) -> list[float]:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer(nn.ParameterList([parameter]), training)
    schedule = make_schedule(optimizer, training, steps)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return [*found, float(optimizer.param_groups[0]["lr"])]


def test_cosine_falls_from_the_peak_to_zero() -> None:
    found = rates(Training(lr=2.0), 10)
    expected = [1 + math.cos(math.pi * step / 10) for step in range(11)]
    assert np.allclose(found, expected, atol=1e-9)


def test_steps_come_at_a_half_and_at_three_quarters() -> None:
    found = rates(Training(lr=1.0, schedule="step"), 8)
    assert np.allclose(found[:8], [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_is_constant() -> None:
    assert rates(Training(lr=0.3, schedule="constant"), 5) == [0.3] * 6


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_a_warm_up_rises_in_a_line_to_the_peak(schedule: Any) -> None:
    found = rates(Training(lr=1.0, schedule=schedule, warmup=0.5), 8)
    assert np.allclose(found[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(found) <= 1 + 1e-9


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_very_short_trainings_have_a_schedule_too(schedule: Any, steps: int, warmup: float) -> None:
    found = rates(Training(lr=1.0, schedule=schedule, warmup=warmup), steps)
    assert all(0 <= rate <= 1 + 1e-9 for rate in found)
    assert steps == 0 or found[0] > 0


def test_optimizers_are_as_asked() -> None:
    sgd = make_optimizer(net(), Training(momentum=0.8, weight_decay=0.01, lr=0.3))
    assert isinstance(sgd, torch.optim.SGD)
    group = sgd.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.3, 0.8, 0.01, True)
    assert not make_optimizer(net(), Training(momentum=0.0)).param_groups[0]["nesterov"]
    assert isinstance(make_optimizer(net(), Training(optimizer="adamw")), torch.optim.AdamW)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_autocasts_unless_it_is_told_not_to(context: Any) -> None:
    for allowed, expected in ((True, torch.bfloat16), (False, torch.float32)):
        seen: list[torch.dtype] = []

        def loss(logits: Tensor, batch: Batch, seen: list[torch.dtype] = seen) -> Tensor:
            seen.append(logits.dtype)
            return task_loss(CLASSIFICATION)(logits, batch)

        here = context(epochs=1, device="cuda")
        model = fit(net(), here, QUICK, loss=loss, mixed_precision=allowed)
        assert set(seen) <= {expected, torch.float32}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_contexts_are_not_shared_between_steps(context: Any) -> None:
    first = context()
    fit(net(), first, QUICK)
    assert evolve(first, history=[]).history == []
    assert context().history == []
