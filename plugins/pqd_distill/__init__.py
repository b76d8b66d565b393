"""Knowledge distillation: `logit-kd`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pqd_core import BackboneEntry, CheckpointPath, Settings, StageDef, Training, hookimpl


class Teacher(Settings):
    """A trained network to learn from; it may be of any architecture and width."""

    backbone: BackboneEntry = Field(description="Its architecture, as under `backbone`.")
    checkpoint: CheckpointPath = Field(description="Its weights: safetensors, or a state dict saved by torch.save.")


class LogitKdSettings(Settings):
    """Whom the network learns from, and how much."""

    temperature: float = Field(4.0, gt=0, description="Divides the logits of both; higher shows more of the teacher.")
    alpha: float = Field(0.9, ge=0, le=1, description="Weight of the teacher's answers; the labels get the rest.")
    teacher: Teacher | None = Field(None, description="The teacher; the dense baseline if not given.")
    training: Training = Field(Training(lr=0.01), description="How the network is trained.")


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage."""
    yield StageDef(
        name="logit-kd",
        kind="distill",
        summary="The network learns the softened class probabilities of a teacher (Hinton, Vinyals and Dean 2015).",
        settings=LogitKdSettings,
        load="pqd_distill.logit_kd",
    )
