"""Knowledge distillation by logits (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2).

The student sees the same augmented images as the teacher and is trained towards the label and towards the teacher's
probabilities, both softened by a temperature. The teacher is used in training only; nothing of it is saved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pqd_core import Batch, PqdError, Problem, StageContext, fit
from pqd_distill import LogitKdSettings


def restructure(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """The structure stays."""
    return model


def run(model: nn.Module, settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """The network has been trained towards labels and teacher.

    Raises:
        PqdError: the teacher answers with another number of classes.
    """
    teacher = find_teacher(settings, context).to(context.device)

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = teacher(batch.inputs)
        hard = F.cross_entropy(logits, batch.targets, label_smoothing=settings.training.label_smoothing)
        return settings.alpha * soft_loss(logits, wanted, settings.temperature) + (1 - settings.alpha) * hard

    return fit(model, context, settings.training, loss=loss)


def freeze(model: nn.Module) -> nn.Module:
    """Nothing to turn: the teacher was never a part of it."""
    return model


def find_teacher(settings: LogitKdSettings, context: StageContext) -> nn.Module:
    """The teacher, in eval mode, without gradients.

    Raises:
        PqdError: it answers with another number of classes than the data has.
    """
    own = settings.teacher
    teacher = context.build(own.backbone, own.checkpoint) if own else context.baseline()
    teacher.eval().requires_grad_(False)
    with torch.no_grad():
        classes = teacher(context.example).shape[-1]
    if classes != context.info.num_classes:
        what = f"the teacher knows {classes} classes, the data has {context.info.num_classes}"
        raise PqdError(Problem("logit-kd.teacher", what, "choose a teacher that was trained on the same classes"))
    return teacher


def soft_loss(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's from the teacher's softened probabilities, mean over the batch.

    Multiplied by the squared temperature, so that its gradient does not shrink as the temperature grows. Both logits
    are (N, classes).
    """
    student = F.log_softmax(logits.float() / temperature, dim=1)
    teacher = F.log_softmax(wanted.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
