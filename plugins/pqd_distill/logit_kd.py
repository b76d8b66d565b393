"""Knowledge distillation from logits (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2).

The loss is `alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy`, with both networks' logits divided by
the temperature T in the first term. Gradients of soft targets shrink as 1/T^2, so the factor T^2 keeps the balance of
the two terms when T changes. The divergence differs from the paper's cross-entropy by the teacher's entropy, which has
no gradient; it is zero when the student answers like its teacher.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from pqd_core import Batch, DataError, Problem, StageContext, cross_entropy, fit
from pqd_distill import LogitKdSettings


def restructure(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """Nothing changes: the teacher is no part of the model."""
    return model


def run(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """The network is trained on its teacher's answers to the same augmented images, and on the labels.

    Raises:
        DataError: the teacher's weights cannot be loaded, or it tells another number of classes apart.
    """
    hard = cross_entropy(settings.training.label_smoothing)
    loss = DistillationLoss(ready_teacher(settings, context), settings.temperature, settings.alpha, hard)
    return fit(model, context, settings.training, loss=loss)


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the teacher stays behind."""
    return model


def ready_teacher(settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """The teacher, in eval mode and without gradients, where the student will be trained."""
    chosen = settings.teacher
    teacher = context.build(chosen.backbone, chosen.checkpoint) if chosen else context.baseline()
    teacher = teacher.eval().requires_grad_(False)
    with torch.no_grad():
        classes = teacher(context.example).shape[-1]
    if classes != context.info.num_classes:
        what = f"tells {classes} classes apart, the data has {context.info.num_classes}"
        raise DataError(Problem("logit-kd.teacher", what, "train the teacher on the same classes"))
    layout = torch.channels_last if context.device.type == "cuda" else torch.contiguous_format
    return teacher.to(context.device).to(memory_format=layout)


@frozen(eq=False)
class DistillationLoss:
    """A loss for `fit` that asks a teacher about each batch."""

    teacher: nn.Module
    temperature: float
    alpha: float
    hard: cross_entropy

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """A scalar, the mean over the batch."""
        soft = distillation(logits, self.answers(batch.inputs), self.temperature)
        return self.alpha * soft + (1 - self.alpha) * self.hard(logits, batch)

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """The teacher's logits, float32; like the student's forward pass, in bf16 on a CUDA device."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            logits: Tensor = self.teacher(images)
        return logits.float()


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of logits (N, classes) at temperature T, the mean over the batch."""
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
