"""Knowledge distillation: `logit-kd`, `dkd` and `feature-kd`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from pqd_core import BackboneEntry, CheckpointPath, Settings, StageDef, Training, hookimpl


class Teacher(Settings):
    """A trained network to learn from; it may be of any architecture and width."""

    backbone: BackboneEntry = Field(description="Its architecture, as under `backbone`.")
    checkpoint: CheckpointPath = Field(description="Its weights: safetensors, or a state dict saved by torch.save.")


class Distillation(Settings):
    """Whom the network learns from, and how it is trained."""

    teacher: Teacher | None = Field(None, description="The teacher; the dense baseline if not given.")
    training: Training = Field(Training(lr=0.01), description="How the network is trained.")


class LogitKdSettings(Distillation):
    """How much of the teacher's answers, and how soft."""

    temperature: float = Field(4.0, gt=0, description="Divides the logits of both; higher shows more of the teacher.")
    alpha: float = Field(0.9, ge=0, le=1, description="Weight of the teacher's answers; the labels get the rest.")


class DkdSettings(Distillation):
    """How much of each of the two parts of the teacher's answers."""

    temperature: float = Field(4.0, gt=0, description="Divides the logits of both; higher shows more of the teacher.")
    alpha: float = Field(1.0, ge=0, description="Weight of the target class: how sure the teacher is of the label.")
    beta: float = Field(8.0, ge=0, description="Weight of the other classes: how the teacher ranks what is wrong.")
    warmup: float = Field(0.1, ge=0, le=1, description="Share of the epochs in which both weights rise linearly.")


class FeatureKdSettings(Distillation):
    """Where the network attends like its teacher, and how much that counts."""

    beta: float = Field(1000.0, gt=0, description="Weight of the attention maps; the labels have weight 1.")
    power: float = Field(2.0, gt=0, description="Power of an activation before the sum over channels.")
    layers: tuple[str, ...] = Field(
        (), description="Layers whose outputs are compared; if none, the last of each image size that both have."
    )
    teacher_layers: tuple[str, ...] = Field(
        (), description="The teacher's counterpart of each of `layers`, where its layers have other names."
    )

    @model_validator(mode="after")
    def _layers_have_counterparts(self) -> Self:
        if self.teacher_layers and len(self.teacher_layers) != len(self.layers):
            raise ValueError(
                f"teacher_layers names {len(self.teacher_layers)} layers and layers {len(self.layers)}; "
                "give each of layers its counterpart, in order"
            )
        return self


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """Three stages; none changes what the network is made of."""
    yield StageDef(
        name="logit-kd",
        kind="distill",
        summary="The network learns the softened class probabilities of a teacher (Hinton, Vinyals and Dean 2015).",
        settings=LogitKdSettings,
        load="pqd_distill.logit_kd",
    )
    yield StageDef(
        name="dkd",
        kind="distill",
        summary="Like logit-kd, with the target class and the other classes weighed apart (Zhao et al. 2022).",
        settings=DkdSettings,
        load="pqd_distill.dkd",
    )
    yield StageDef(
        name="feature-kd",
        kind="distill",
        summary="The network learns where its teacher attends in the image (Zagoruyko and Komodakis 2017).",
        settings=FeatureKdSettings,
        load="pqd_distill.feature_kd",
    )
