"""Numbers for each image, as near as they can be got."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from pqd_tasks import RegressionSettings
from pqd_tasks.vectors import check_vectors

SMALLEST_VARIANCE = 1e-12
"""Keeps targets that are all alike from dividing by zero."""


@frozen
class Regression:
    """Squared error; `accuracy` is R^2, 1 for exact answers and 0 for always answering the mean."""

    settings: RegressionSettings

    accuracy_is = "R^2, the share of the targets' variance that is explained; 0 for always answering the mean"

    def check(self, targets: np.ndarray, outputs: int) -> list[str]:
        """A finite number for each image and output."""
        problems = check_vectors(targets, outputs)
        if not problems and not np.isfinite(targets).all():
            problems.append("targets hold numbers that are not finite")
        return problems

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean squared error; there is no label to smooth."""
        return F.mse_loss(outputs, targets)

    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Mean squared difference from the teacher's answers, which have no temperature."""
        return F.mse_loss(student, teacher)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 minus the squared error over the variance of these targets, so that the mean over them is R^2."""
        variance = (targets - targets.mean(0)).square().sum(1).mean().clamp(min=SMALLEST_VARIANCE)
        return 1 - (outputs - targets).square().sum(1) / variance

    def agree(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether no output differs by more than the tolerance."""
        return (one - other).abs().amax(1) <= self.settings.tolerance
