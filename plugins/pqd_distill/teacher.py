"""The teacher, ready to be asked; what all distillation has in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pqd_core import DataError, Problem, StageContext
from pqd_distill import Distillation


def ready_teacher(settings: Distillation, context: StageContext, stage: str) -> nn.Module:
    """The teacher, in eval mode and without gradients, where the student will be trained.

    Raises:
        DataError: as by `fitting_teacher`.
    """
    layout = torch.channels_last if context.device.type == "cuda" else torch.contiguous_format
    return fitting_teacher(settings, context, stage).to(context.device).to(memory_format=layout)


def fitting_teacher(settings: Distillation, context: StageContext, stage: str) -> nn.Module:
    """The teacher, in eval mode and without gradients, on the CPU.

    Raises:
        DataError: its weights cannot be loaded, or it tells another number of classes apart.
    """
    chosen = settings.teacher
    teacher = context.build(chosen.backbone, chosen.checkpoint) if chosen else context.baseline()
    teacher = teacher.eval().requires_grad_(False)
    with torch.no_grad():
        classes = teacher(context.example).shape[-1]
    if classes != context.info.num_classes:
        what = f"tells {classes} classes apart, the data has {context.info.num_classes}"
        raise DataError(Problem(f"{stage}.teacher", what, "train the teacher on the same classes"))
    return teacher


@torch.no_grad()
def answers(teacher: nn.Module, images: Tensor) -> Tensor:
    """The teacher's logits, float32; like the student's forward pass, in bf16 on a CUDA device."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        logits: Tensor = teacher(images)
    return logits.float()
