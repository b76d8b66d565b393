"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv:2203.08679, section 3).

Classical distillation is the sum of two parts (equation 7): how sure the teacher is of the target class (TCKD), and
`1 - p_target` times how it spreads the rest over the other classes (NCKD). The factor silences the second part exactly
where the teacher is sure, which is nearly everywhere. Here the parts have weights of their own (section 3.3):
`cross-entropy + T^2 * (alpha * TCKD + beta * NCKD)`.

A network far from its teacher would be thrown about by a large beta, so both weights rise over the first epochs, as
in the authors' code.
"""

from __future__ import annotations

import torch
from attrs import define
from torch import Tensor, nn
from torch.nn import functional as F

from pqd_core import Batch, Classification, DataError, Problem, StageContext, fit, task_loss
from pqd_distill import DkdSettings
from pqd_distill.teacher import answers, fitting_teacher, ready_teacher


def restructure(model: nn.Module, settings: DkdSettings, context: StageContext) -> nn.Module:
    """Nothing changes: the teacher is no part of the model."""
    return model


def rehearse(model: nn.Module, settings: DkdSettings, context: StageContext) -> None:
    """The teacher fits, and images have a single class.

    Raises:
        DataError: as by `run`.
    """
    _check_task(context)
    fitting_teacher(settings, context, "dkd")


def run(model: nn.Module, settings: DkdSettings, context: StageContext) -> nn.Module:
    """The network is trained on the labels and on both parts of its teacher's answers to the same augmented images.

    Raises:
        DataError: the teacher's weights cannot be loaded, it tells another number of classes apart, or images have no
            single class.
    """
    _check_task(context)
    hard = task_loss(context.task, settings.training.label_smoothing)
    loss = DecoupledLoss(ready_teacher(settings, context, "dkd"), settings, hard)
    warmup = settings.warmup * context.epochs

    def warm_up(epoch: int) -> None:
        loss.strength = min(1.0, (epoch + 1) / warmup) if warmup else 1.0

    return fit(model, context, settings.training, loss=loss, on_epoch=[warm_up])


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the teacher stays behind."""
    return model


def _check_task(context: StageContext) -> None:
    if not isinstance(context.task, Classification):
        what = "parts a teacher's answers into the image's class and all others; the task has no single class"
        raise DataError(Problem("dkd", what, "distill with logit-kd, whose loss is the task's"))


@define(eq=False)
class DecoupledLoss:
    """A loss for `fit` that asks a teacher about each batch."""

    teacher: nn.Module
    settings: DkdSettings
    hard: task_loss
    strength: float = 1.0
    """What the warm-up leaves of the teacher's weight."""

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """A scalar, the mean over the batch."""
        asked, temperature = self.settings, self.settings.temperature
        target, others = decoupled(logits, answers(self.teacher, batch.inputs), batch.targets, temperature)
        soft = temperature**2 * (asked.alpha * target + asked.beta * others)
        return self.hard(logits, batch) + self.strength * soft


def decoupled(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of logits (N, classes) at temperature T for `targets` (N,), each the mean over the batch."""
    own, other = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    is_target = F.one_hot(targets, student.shape[1]).bool()
    own_split, other_split = _target_or_not(own, is_target), _target_or_not(other, is_target)
    tckd = F.kl_div(own_split, other_split, reduction="batchmean", log_target=True)
    own_rest, other_rest = (_without_target(p, is_target) for p in (own, other))
    nckd = F.kl_div(own_rest, other_rest, reduction="batchmean", log_target=True)
    return tckd, nckd


def _target_or_not(log_probabilities: Tensor, is_target: Tensor) -> Tensor:
    """Log-probabilities (N, 2) of the target class and of all others together."""
    rest = log_probabilities.masked_fill(is_target, -torch.inf).logsumexp(1)
    return torch.stack([log_probabilities[is_target], rest], dim=1)


def _without_target(log_probabilities: Tensor, is_target: Tensor) -> Tensor:
    """Log-probabilities (N, classes - 1) of the other classes, given that it is none but them."""
    others = log_probabilities[~is_target].view(len(log_probabilities), -1)
    return F.log_softmax(others, dim=1)
