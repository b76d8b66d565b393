"""Any number of labels for each image: an output for each label, through a sigmoid, right or wrong by itself."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from pqd_tasks import MultiLabelSettings
from pqd_tasks.vectors import check_vectors


@frozen
class MultiLabel:
    """Binary cross-entropy over all labels; `accuracy` is the share of an image's labels that are right."""

    settings: MultiLabelSettings

    accuracy_is = "share of all images' labels that are rightly given or rightly not given"

    def check(self, targets: np.ndarray, outputs: int) -> list[str]:
        """A 0 or 1 for each image and output."""
        problems = check_vectors(targets, outputs)
        if not problems and not np.isin(targets, (0, 1)).all():
            problems.append("labels hold other numbers than 0 and 1")
        return problems

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Binary cross-entropy; smoothing moves each label towards one half (Szegedy et al. 2016, section 7)."""
        smooth = targets * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smooth)

    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """T^2 times the divergence of each label's two probabilities at temperature T, the mean over labels."""
        soft = (teacher / temperature).sigmoid()
        cross = F.binary_cross_entropy_with_logits(student / temperature, soft)
        entropy = F.binary_cross_entropy_with_logits(teacher / temperature, soft)
        return temperature**2 * (cross - entropy)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The share of an image's labels that are right."""
        return (self._given(outputs) == targets.bool()).float().mean(1)

    def agree(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether both give the same labels."""
        return (self._given(one) == self._given(other)).all(1)

    def _given(self, outputs: Tensor) -> Tensor:
        threshold = self.settings.threshold
        return outputs >= math.log(threshold / (1 - threshold))
