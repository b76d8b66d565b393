"""Knowledge distillation from logits (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2).

The loss is `alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy`, with both networks' logits divided by
the temperature T in the first term. Gradients of soft targets shrink as 1/T^2, so the factor T^2 keeps the balance of
the two terms when T changes. The divergence differs from the paper's cross-entropy by the teacher's entropy, which has
no gradient; it is zero when the student answers like its teacher. Other tasks than classification bring both losses of
their own.
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from pqd_core import Batch, StageContext, fit, task_loss
from pqd_distill import LogitKdSettings
from pqd_distill.teacher import answers, fitting_teacher, ready_teacher


def restructure(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """Nothing changes: the teacher is no part of the model."""
    return model


def rehearse(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> None:
    """The teacher fits.

    Raises:
        DataError: its weights cannot be loaded, or it tells another number of classes apart.
    """
    fitting_teacher(settings, context, "logit-kd")


def run(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """The network is trained on its teacher's answers to the same augmented images, and on the labels.

    Raises:
        DataError: the teacher's weights cannot be loaded, or it tells another number of classes apart.
    """
    hard = task_loss(context.task, settings.training.label_smoothing)
    loss = DistillationLoss(ready_teacher(settings, context, "logit-kd"), settings.temperature, settings.alpha, hard)
    return fit(model, context, settings.training, loss=loss)


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the teacher stays behind."""
    return model


@frozen(eq=False)
class DistillationLoss:
    """A loss for `fit` that asks a teacher about each batch."""

    teacher: nn.Module
    temperature: float
    alpha: float
    hard: task_loss
    """The loss on the labels; its task brings the one on the teacher's answers."""

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """A scalar, the mean over the batch."""
        soft = self.hard.task.soft_loss(logits, answers(self.teacher, batch.inputs), self.temperature)
        return self.alpha * soft + (1 - self.alpha) * self.hard(logits, batch)
