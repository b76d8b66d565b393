"""What is asked of tasks: a loss that can be learned from, and answers about outputs, one for each image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pqd_core.records import TaskDef
from pqd_core.task import Task
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.workshop import workshop

IMAGES, OUTPUTS = 6, 3
TARGETS: dict[str, np.ndarray] = {
    "class numbers": np.arange(IMAGES, dtype=np.int64) % OUTPUTS,
    "zeros and ones": (np.arange(IMAGES * OUTPUTS).reshape(IMAGES, OUTPUTS) % 2).astype(np.float32),
    "numbers": np.linspace(-1, 1, IMAGES * OUTPUTS, dtype=np.float32).reshape(IMAGES, OUTPUTS),
}
"""What targets may be; a task takes one of these at least."""


def _task(case: Case) -> Task:
    task: Task = case.component.implementation()(workshop(case).settings)
    return task


def _fitting(task: Task) -> list[np.ndarray]:
    return [targets for targets in TARGETS.values() if not task.check(targets, OUTPUTS)]


def _outputs(seed: int = 0) -> Tensor:
    return torch.randn(IMAGES, OUTPUTS, generator=torch.Generator().manual_seed(seed))


@check(TaskDef)
def targets_are_taken_or_refused_with_a_reason(case: Case) -> None:
    """The task takes class numbers, zeros and ones, or numbers; what it does not take it refuses in a sentence."""
    task = _task(case)
    require(task.accuracy_is.strip(), "does not say what accuracy is")
    require(_fitting(task), f"takes none of {', '.join(TARGETS)}")
    refused = [sentence for targets in TARGETS.values() for sentence in task.check(targets, OUTPUTS)]
    require(all(isinstance(sentence, str) and sentence.strip() for sentence in refused), "refuses without a reason")


@check(TaskDef)
def losses_can_be_learned_from(case: Case) -> None:
    """Loss and soft loss are finite scalars with a gradient, and a step against the gradient makes them smaller."""
    task = _task(case)
    for targets in _fitting(task):
        _require_descent(partial(_loss, task, torch.from_numpy(targets)), "loss")
    _require_descent(lambda outputs: task.soft_loss(outputs, _outputs(1), 2.0), "soft_loss")


def _loss(task: Task, targets: Tensor, outputs: Tensor) -> Tensor:
    return task.loss(outputs, targets)


def _require_descent(loss: Callable[[Tensor], Tensor], name: str) -> None:
    outputs = _outputs().requires_grad_()
    before = loss(outputs)
    require(before.dim() == 0 and bool(before.isfinite()), f"{name} is no finite scalar")
    (slope,) = torch.autograd.grad(before, outputs)
    after = loss((outputs - 0.01 * slope / slope.norm().clamp(min=1e-9)).detach())
    require(float(after) < float(before.detach()), f"{name} does not fall along its gradient")


@check(TaskDef)
def answers_are_one_for_each_image(case: Case) -> None:
    """`right` is a finite number for each image, and two equal outputs agree."""
    task, outputs = _task(case), _outputs()
    for targets in _fitting(task):
        right = task.right(outputs, torch.from_numpy(targets))
        require(right.shape == (IMAGES,) and right.dtype == torch.float32, "right is not float32 (N,)")
        require(bool(right.isfinite().all()), "right is not finite")
    agree = task.agree(outputs, outputs.clone())
    require(agree.shape == (IMAGES,) and agree.dtype == torch.bool, "agree is not bool (N,)")
    require(bool(agree.all()), "a network does not agree with itself")
