"""Tasks beyond classification: from their losses to a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import light
import numpy as np
import pytest
import torch
from bench import Bench
from torch.nn import functional as F

import pqd_distill
import pqd_measure
import pqd_tasks
import pqd_vision
from pqd_core import Task
from pqd_core.host.errors import DataError
from pqd_core.host.plugins import register_plugin
from pqd_core.task import CLASSIFICATION
from pqd_core.testing import toy_host
from pqd_tasks import MultiLabelSettings, RegressionSettings
from pqd_tasks.multi_label import MultiLabel
from pqd_tasks.regression import Regression

LABELS = MultiLabel(MultiLabelSettings())
NUMBERS = Regression(RegressionSettings())
ONE_HOT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_labels_count_one_by_one() -> None:
    outputs = torch.tensor([[2.0, -2.0, -2.0], [-1.0, -1.0, 1.0]])
    assert LABELS.right(outputs, ONE_HOT).tolist() == pytest.approx([2 / 3, 1])


def test_a_label_is_given_from_the_threshold_on() -> None:
    strict = MultiLabel(MultiLabelSettings(threshold=0.9))
    outputs = torch.logit(torch.tensor([[0.89, 0.91]]))
    assert strict.right(outputs, torch.tensor([[0.0, 1.0]])).item() == 1
    assert LABELS.right(outputs, torch.tensor([[0.0, 1.0]])).item() == 0.5
    assert strict.agree(outputs, -outputs).tolist() == [False]


def test_the_loss_of_labels_is_binary_cross_entropy() -> None:
    outputs = torch.randn(2, 3)
    assert LABELS.loss(outputs, ONE_HOT) == F.binary_cross_entropy_with_logits(outputs, ONE_HOT)
    smooth = F.binary_cross_entropy_with_logits(outputs, torch.where(ONE_HOT == 1, 0.9, 0.1))
    assert LABELS.loss(outputs, ONE_HOT, 0.2).item() == pytest.approx(smooth.item())


def test_explained_variance_is_one_for_exact_answers_and_zero_for_the_mean() -> None:
    targets = torch.tensor([[0.0, 4.0], [2.0, 0.0], [4.0, 2.0]])
    assert NUMBERS.right(targets, targets).mean() == 1
    assert NUMBERS.right(targets.mean(0).expand(3, 2), targets).mean().item() == pytest.approx(0, abs=1e-6)


def test_two_answers_agree_within_the_tolerance() -> None:
    one = torch.zeros(2, 2)
    assert NUMBERS.agree(one, one + torch.tensor([[0.04, 0.0], [0.0, 0.06]])).tolist() == [True, False]


@pytest.mark.parametrize("task", [CLASSIFICATION, LABELS, NUMBERS])
def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn(task: Task) -> None:
    teacher = torch.randn(6, 3)
    student = teacher.clone().requires_grad_()
    loss = task.soft_loss(student, teacher, 4.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6
    assert task.soft_loss(-teacher, teacher, 4.0) > 0.01


@pytest.mark.parametrize(
    ("task", "targets", "told"),
    [
        (CLASSIFICATION, np.zeros((4, 3), np.float32), "expected one class number"),
        (CLASSIFICATION, np.array([0, 3]), "labels run from 0 to 3, expected 0 to 2"),
        (LABELS, np.zeros(4, np.int64), "expected 3 numbers for each image"),
        (LABELS, np.full((4, 3), 0.5), "other numbers than 0 and 1"),
        (NUMBERS, np.zeros((4, 2)), "expected 3 numbers for each image"),
        (NUMBERS, np.full((4, 3), np.nan), "not finite"),
    ],
)
def test_targets_that_do_not_fit_the_task_are_told(task: Task, targets: np.ndarray, told: str) -> None:
    [problem] = task.check(targets, 3)
    assert told in problem


# --- a whole run


@pytest.fixture
def shop(tmp_path: Path) -> Bench:
    host = toy_host(light)
    for module in (pqd_distill, pqd_measure, pqd_tasks, pqd_vision):
        register_plugin(host, module, module.__name__)
    return Bench(host, tmp_path)


def saved(folder: Path, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    file = folder / "data.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x[:60], y_test=y[:60])
    return {"use": "npz", "path": str(file), "targets": "vectors", "padding": 0, "flip": False}


def bright_parts(images: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 8, 8) whose three parts are each dark or bright, and how bright they are (N, 3)."""
    rng = np.random.default_rng(0)
    parts = rng.integers(0, 2, (images, 3)).astype(np.float32)
    pixels = np.repeat(np.pad(parts, ((0, 0), (0, 1))), 2, axis=1)[:, None, None, :].repeat(8, axis=2)
    return np.uint8(np.clip(pixels * 200 + rng.normal(20, 8, pixels.shape), 0, 255)), parts


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_a_task_is_learned_distilled_deployed_and_measured(shop: Bench, tmp_path: Path, task: str) -> None:
    pixels, parts = bright_parts()
    report = shop.run(
        shop.spec(
            backbone="toy-net",
            dataset=saved(tmp_path, parts, pixels),
            task=task,
            baseline={"epochs": 8, "lr": 0.02, "batch_size": 24},
            stages=[{"use": "logit-kd", "epochs": 1}],
            runtimes=["toy-torch"],
            measure=["accuracy"],
        )
    )
    assert report.complete, report.problems
    dense, distilled = (row.metrics["accuracy"] for row in report.rows)
    assert min(dense.value or 0, distilled.value or 0) > 0.8
    assert dense.provenance["accuracy_is"] in (LABELS.accuracy_is, NUMBERS.accuracy_is)
    assert report.rows[0].metrics["accuracy_top5"].missing == "an image has no single class here"
    curve = report.steps[0].history
    assert curve[-1]["train_accuracy"] > curve[0]["train_accuracy"]


def test_a_task_is_part_of_what_was_asked(shop: Bench, tmp_path: Path) -> None:
    from pqd_core.plan import build_plan

    pixels, parts = bright_parts(40)
    asked = {"backbone": "toy-net", "dataset": saved(tmp_path, parts, pixels)}
    plans = [build_plan(shop.spec(**asked, task=task), shop.host) for task in ("multi-label", "regression", None)]
    assert len({plan.steps[0].key for plan in plans}) == 3


def test_labels_of_another_task_are_refused_before_any_training(shop: Bench, tmp_path: Path) -> None:
    pixels, parts = bright_parts(40)
    with pytest.raises(DataError) as error:
        shop.run(shop.spec(backbone="toy-net", dataset=saved(tmp_path, parts, pixels)))
    assert "expected one class number for each image" in str(error.value)
    with pytest.raises(DataError) as error:
        shop.run(shop.spec(task="multi-label"))
    assert "expected 3 numbers for each image" in str(error.value)
