"""Distillation: `logit-kd`, which trains towards a teacher's softened answers."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pqd_core import BackboneEntry, CheckpointPath, Settings, StageDef, Training, hookimpl


class Teacher(Settings):
    """A network to learn from, other than the dense baseline."""

    backbone: BackboneEntry = Field(description="Its architecture; it may be wider than the student.")
    checkpoint: CheckpointPath = Field(description="Its weights: safetensors, or a state dict saved by torch.save.")


class LogitKdSettings(Settings):
    """Whom the network learns from, and how much."""

    temperature: float = Field(4.0, gt=0, description="Softens both answers before they are compared.")
    alpha: float = Field(0.5, ge=0, le=1, description="Weight of the teacher's answer; the label has the rest.")
    teacher: Teacher | None = Field(None, description="The dense baseline if not given.")
    training: Training = Field(Training(lr=0.01), description="How the network is trained in this stage.")


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage."""
    yield StageDef(
        name="logit-kd",
        kind="distill",
        summary="Trains towards the softened logits of a teacher (Hinton, Vinyals and Dean 2015).",
        settings=LogitKdSettings,
        needs=("trainable",),
        load="pqd_distill.logit_kd",
    )
