"""`dkd` minimizes the paper's two parts, which add up to classical distillation with the paper's weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, context, images, network
from torch import nn
from torch.nn import functional as F

from pqd_core import Batch, DataError, fit, task_loss
from pqd_core.task import CLASSIFICATION
from pqd_distill import DkdSettings, dkd, pqd_stages
from pqd_distill.dkd import DecoupledLoss, decoupled

SETTINGS = DkdSettings(training=BRIEF)


def test_the_two_parts_are_the_paper_s_on_an_example_computed_by_hand() -> None:
    p, q, target = [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], 0
    tckd = p[0] * math.log(p[0] / q[0]) + (1 - p[0]) * math.log((1 - p[0]) / (1 - q[0]))
    rest_p, rest_q = [x / (1 - p[0]) for x in p[1:]], [x / (1 - q[0]) for x in q[1:]]
    nckd = sum(a * math.log(a / b) for a, b in zip(rest_p, rest_q, strict=True))
    student, teacher = (torch.tensor([probabilities]).log() * 2 for probabilities in (q, p))
    found = decoupled(student, teacher, torch.tensor([target]), temperature=2.0)
    assert [float(part) for part in found] == pytest.approx([tckd, nckd], rel=1e-5)


def test_the_parts_add_up_to_classical_distillation_as_in_equation_7() -> None:
    torch.manual_seed(0)
    student, teacher, temperature = torch.randn(1, 10), torch.randn(1, 10), 3.0
    for target in range(10):
        tckd, nckd = decoupled(student, teacher, torch.tensor([target]), temperature)
        not_target = 1 - F.softmax(teacher / temperature, 1)[0, target]
        together = temperature**2 * (tckd + not_target * nckd)
        assert torch.allclose(together, CLASSIFICATION.soft_loss(student, teacher, temperature), atol=1e-5)


def test_a_teacher_that_is_quite_sure_gives_finite_losses_and_gradients() -> None:
    student = torch.tensor([[80.0, -80.0, 0.0]], requires_grad=True)
    tckd, nckd = decoupled(student, torch.tensor([[-90.0, 90.0, 0.0]]), torch.tensor([1]), 1.0)
    (tckd + nckd).backward()
    assert torch.isfinite(tckd + nckd)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_student_that_answers_like_its_teacher_has_only_the_labels_to_learn() -> None:
    logits, teacher = torch.randn(8, 10), network()
    batch = Batch(images(8), torch.arange(8))
    with torch.no_grad():
        same = teacher(batch.inputs)
    loss = DecoupledLoss(teacher, SETTINGS, task_loss(CLASSIFICATION))
    assert float(loss(same, batch)) == pytest.approx(float(task_loss(CLASSIFICATION)(same, batch)), abs=1e-4)
    assert float(loss(logits, batch)) > float(task_loss(CLASSIFICATION)(logits, batch))


def test_both_weights_rise_over_the_first_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths: list[float] = []

    def only_epochs(model: nn.Module, context: Any, training: Any, *, loss: Any, on_epoch: Any) -> nn.Module:
        for epoch in range(context.epochs):
            on_epoch[0](epoch)
            strengths.append(loss.strength)
        return model

    monkeypatch.setattr(dkd, "fit", only_epochs)
    dkd.run(network(), SETTINGS.model_copy(update={"warmup": 0.4}), context(epochs=10))
    dkd.run(network(), SETTINGS.model_copy(update={"warmup": 0.0}), context(epochs=1))
    assert strengths == [0.25, 0.5, 0.75, *[1.0] * 7, 1.0]


def test_without_weights_it_is_plain_training() -> None:
    plain, distilled = network(), network()
    fit(plain, context(epochs=1), BRIEF)
    dkd.run(distilled, SETTINGS.model_copy(update={"alpha": 0.0, "beta": 0.0}), context(epochs=1))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), distilled.parameters(), strict=True))


def test_the_student_comes_nearer_to_the_baseline() -> None:
    torch.manual_seed(0)
    teacher = fit(network(seed=1), context(epochs=6), BRIEF)
    student = network(seed=2)

    def distance() -> float:
        with torch.no_grad():
            return float(CLASSIFICATION.soft_loss(student.eval()(images(160)), teacher(images(160)), 4.0))

    before = distance()
    dkd.run(student, SETTINGS, context(epochs=6, teacher=teacher))
    assert distance() < 0.5 * before


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"alpha": -1}, {"beta": -1}, {"warmup": 2}, {"gamma": 1}])
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DkdSettings(**settings)


def test_the_record_says_what_the_stage_is() -> None:
    record = next(record for record in pqd_stages() if record.name == "dkd")
    assert (record.kind, record.needs, record.given) == ("distill", ("trainable",), ())
    assert record.after(frozenset({"trainable", "sparse", "fake-quant"})) == {"trainable", "sparse", "fake-quant"}
    assert record.implementation() is dkd


def test_a_task_without_a_single_class_is_refused() -> None:
    around = context()
    around.task = object()  # type: ignore[assignment]
    with pytest.raises(DataError, match="no single class"):
        dkd.run(network(), SETTINGS, around)
