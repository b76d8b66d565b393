"""What a network's outputs mean: how they are trained, when they are right, and when two of them say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """What a task's implementation does for outputs (N, outputs) and targets (N,) or (N, outputs)."""

    accuracy_is: str
    """What the metric `accuracy` is here, in a few words for the report."""

    def check(self, targets: np.ndarray, outputs: int) -> list[str]:
        """What is wrong with the targets of a split for a network of so many outputs; nothing if they fit."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The scalar that training makes small, the mean over the batch."""
        ...

    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """How far a student's outputs are from a teacher's, a scalar whose scale does not depend on `temperature`."""
        ...

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How right each output is, float32 (N,); `accuracy` is the mean over a split."""
        ...

    def agree(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether two networks' outputs for the same image say the same, bool (N,)."""
        ...


class Classification:
    """One class for each image: softmax and cross-entropy. The task of a spec that names none."""

    accuracy_is = "share of images whose largest output is their class"

    def check(self, targets: np.ndarray, outputs: int) -> list[str]:
        """Class numbers from 0, below the number of outputs."""
        if targets.ndim != 1 or targets.dtype.kind not in "iu":
            return [f"targets are {targets.shape} of {targets.dtype}, expected one class number for each image"]
        if targets.min() >= 0 and targets.max() < outputs:
            return []
        return [f"labels run from {targets.min()} to {targets.max()}, expected 0 to {outputs - 1}"]

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Softmax cross-entropy, optionally with label smoothing."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """T^2 * KL(teacher || student) at temperature T (Hinton, Vinyals and Dean 2015, section 2)."""
        from torch.nn import functional as F

        log_student = F.log_softmax(student / temperature, dim=1)
        log_teacher = F.log_softmax(teacher / temperature, dim=1)
        return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 where the largest output, the first of equals, is the image's class."""
        return (outputs.argmax(1) == targets).float()

    def agree(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether both name the same class."""
        return one.argmax(1) == other.argmax(1)


CLASSIFICATION = Classification()
