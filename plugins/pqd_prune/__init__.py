"""Pruning by magnitude: `magnitude`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from pqd_core import Settings, StageDef, Training, hookimpl


class MagnitudeSettings(Settings):
    """How many weights go, among which they are compared, when, and how the network is trained meanwhile."""

    sparsity: float = Field(0.7, gt=0, lt=1, description="Share of the included weights that are zero in the end.")
    scope: Literal["global", "layer"] = Field(
        "global", description="Compare weights over all included layers, or within each layer."
    )
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: what is pruned.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: what is kept whole all the same.")
    schedule: Literal["one-shot", "gradual"] = Field(
        "one-shot", description="All at once and then training, or more and more during training (cubic)."
    )
    begin: float = Field(0.0, ge=0, lt=1, description="Gradual: share of the steps after which pruning begins.")
    end: float = Field(0.5, gt=0, le=1, description="Gradual: share of the steps after which pruning has ended.")
    interval: int = Field(10, ge=1, description="Gradual: optimizer steps from one pruning to the next.")
    training: Training = Field(Training(lr=0.02), description="How the network is trained after or while it is pruned.")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must be less than end ({self.end})")
        return self


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage."""
    yield StageDef(
        name="magnitude",
        kind="prune",
        summary="The smallest weights of convolutions and linear layers become zero and stay zero (unstructured).",
        settings=MagnitudeSettings,
        needs=("trainable",),
        gives=("sparse",),
        no_gain={
            "latency_ms": "the runtime runs dense kernels, which multiply by a zero as by any other weight",
            "macs": "single weights were removed, not channels: every layer keeps its shape",
        },
        load="pqd_prune.magnitude",
    )
