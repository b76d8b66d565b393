"""`logit-kd` minimizes the paper's loss against whichever teacher it is given."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, SmallResidual, context, images, network
from torch import Tensor, nn

from pqd_core import Batch, DataError, fit, task_loss
from pqd_core.task import CLASSIFICATION
from pqd_distill import LogitKdSettings, logit_kd, pqd_stages
from pqd_distill.logit_kd import DistillationLoss
from pqd_distill.teacher import ready_teacher

SETTINGS = LogitKdSettings(training=BRIEF)


class Fixed(nn.Module):
    """Answers every image alike."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_the_loss_is_the_paper_s_on_an_example_computed_by_hand() -> None:
    student, teacher, temperature, alpha = (1.0, 3.0), (2.0, 0.0), 2.0, 0.7

    def softmax(logits: tuple[float, float], t: float) -> list[float]:
        powers = [math.exp(z / t) for z in logits]
        return [power / sum(powers) for power in powers]

    p, q = softmax(teacher, temperature), softmax(student, temperature)
    soft = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    hard = -math.log(softmax(student, 1.0)[0])
    expected = alpha * temperature**2 * soft + (1 - alpha) * hard
    loss = DistillationLoss(Fixed([2.0, 0.0]), temperature, alpha, task_loss(CLASSIFICATION))
    batch = Batch(torch.zeros(3, 1, 8, 8), torch.tensor([0, 0, 0]))
    assert float(loss(torch.tensor([student] * 3), batch)) == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_that_of_the_paper_s_cross_entropy_with_soft_targets() -> None:
    torch.manual_seed(0)
    ours, teacher, t = torch.randn(5, 10, requires_grad=True), torch.randn(5, 10), 3.0
    theirs = ours.detach().clone().requires_grad_()
    CLASSIFICATION.soft_loss(ours, teacher, t).backward()
    soft_targets = torch.softmax(teacher / t, 1)
    (t**2 * nn.functional.cross_entropy(theirs / t, soft_targets)).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)  # type: ignore[arg-type]


def test_the_scale_of_the_gradient_does_not_depend_on_a_high_temperature() -> None:
    torch.manual_seed(0)
    teacher, norms = torch.randn(8, 10), []
    for temperature in (20.0, 200.0):
        student = torch.zeros(8, 10, requires_grad=True)
        CLASSIFICATION.soft_loss(student, teacher, temperature).backward()
        norms.append(float(student.grad.norm()))  # type: ignore[union-attr]
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    logits = torch.randn(4, 10)
    assert float(CLASSIFICATION.soft_loss(logits, logits + 5, 4.0)) == pytest.approx(0, abs=1e-6)


def test_alpha_zero_is_plain_training() -> None:
    plain, distilled = network(), network()
    fit(plain, context(epochs=1), BRIEF)
    logit_kd.run(distilled, SETTINGS.model_copy(update={"alpha": 0.0}), context(epochs=1))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), distilled.parameters(), strict=True))


def test_alpha_one_ignores_the_labels() -> None:
    loss = DistillationLoss(network(), 4.0, 1.0, task_loss(CLASSIFICATION))
    one, other = (Batch(images(8), torch.full((8,), label)) for label in (0, 9))
    logits = torch.randn(8, 10)
    assert torch.equal(loss(logits, one), loss(logits, other))


def test_the_student_comes_nearer_to_the_baseline() -> None:
    torch.manual_seed(0)
    teacher = fit(network(seed=1), context(epochs=6), BRIEF)
    student = network(seed=2)

    def distance() -> float:
        with torch.no_grad():
            return float(CLASSIFICATION.soft_loss(student.eval()(images(160)), teacher(images(160)), 4.0))

    before = distance()
    logit_kd.run(student, SETTINGS.model_copy(update={"alpha": 1.0}), context(epochs=6, teacher=teacher))
    assert distance() < 0.5 * before


def test_the_teacher_stays_as_it_is_and_out_of_the_model() -> None:
    teacher, student = network(seed=1), network(seed=2)
    names, state = list(student.state_dict()), {k: v.clone() for k, v in teacher.state_dict().items()}
    model = logit_kd.run(student, SETTINGS, context(epochs=1, teacher=teacher))
    assert all(torch.equal(tensor, state[name]) for name, tensor in teacher.state_dict().items())
    assert list(logit_kd.freeze(model).state_dict()) == names
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())


def test_the_teacher_sees_the_augmented_images_of_the_batch() -> None:
    seen: list[Tensor] = []

    class Watching(Fixed):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images)

    batch = Batch(torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    DistillationLoss(Watching([0.0] * 10), 4.0, 0.9, task_loss(CLASSIFICATION))(torch.randn(4, 10), batch)
    assert seen[0] is batch.inputs


def given_teacher(backbone: Any, checkpoint: Path) -> LogitKdSettings:
    """Settings with a teacher; a stand-in for the parsed entry, which needs a host to be read."""
    return SETTINGS.model_copy(update={"teacher": SimpleNamespace(backbone=backbone, checkpoint=checkpoint)})


def test_a_wider_teacher_can_be_given(tmp_path: Path) -> None:
    asked = []

    def build(backbone: Any, checkpoint: Path | None) -> nn.Module:
        asked.append((backbone, checkpoint))
        return SmallResidual(width=24).train()

    around = context(epochs=1, build=build)
    logit_kd.run(network(), given_teacher("wide", tmp_path / "wide.safetensors"), around)
    assert asked == [("wide", tmp_path / "wide.safetensors")]
    assert around.history[0]["loss"] > 0


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    around = context(build=lambda backbone, checkpoint: SmallResidual(classes=7))
    with pytest.raises(DataError) as error:
        ready_teacher(given_teacher("odd", tmp_path), around, "logit-kd")
    [problem] = error.value.problems
    assert problem.where == "logit-kd.teacher"
    assert "7 classes" in problem.what
    assert "10" in problem.what


def test_the_teacher_is_the_baseline_if_none_is_given() -> None:
    baseline = network(seed=4).train()
    teacher = ready_teacher(SETTINGS, context(teacher=baseline), "logit-kd")
    assert teacher is baseline
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"alpha": 1.1}, {"alpha": -0.1}, {"teacher": {}}, {"t": 4}])
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LogitKdSettings(**settings)


def test_the_record_says_what_the_stage_is() -> None:
    record = next(record for record in pqd_stages() if record.name == "logit-kd")
    assert (record.name, record.kind, record.needs, record.given) == ("logit-kd", "distill", ("trainable",), ())
    assert record.after(frozenset({"trainable", "sparse", "fake-quant"})) == {"trainable", "sparse", "fake-quant"}
    assert record.implementation() is logit_kd
