"""Pruning: `magnitude`, which zeroes the smallest weights and keeps them zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from pqd_core import Settings, StageDef, Training, hookimpl


class MagnitudeSettings(Settings):
    """How many weights go, which, when, and how the network is trained meanwhile."""

    sparsity: float = Field(0.7, gt=0, lt=1, description="Share of the included weights that are zero at the end.")
    scope: Literal["global", "layer"] = Field(
        "global", description="Rank the weights of all layers together, or take the same share of each layer."
    )
    schedule: Literal["one-shot", "gradual"] = Field(
        "one-shot", description="Prune at once and train on, or step by step along a cubic (Zhu and Gupta 2017)."
    )
    begin: float = Field(0.0, ge=0, lt=1, description="Share of the stage's steps after which gradual pruning begins.")
    end: float = Field(0.7, gt=0, le=1, description="Share of the stage's steps after which gradual pruning is done.")
    updates: int = Field(20, ge=1, description="How many times gradual pruning takes weights away.")
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: whose weights may go.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: whose weights stay all the same.")
    training: Training = Field(Training(lr=0.02), description="How the network is trained in this stage.")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> MagnitudeSettings:
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must be less than end ({self.end})")
        return self


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage."""
    yield StageDef(
        name="magnitude",
        kind="prune",
        summary="Zeroes the smallest weights, anywhere (Han et al. 2015), and keeps them zero.",
        settings=MagnitudeSettings,
        needs=("trainable",),
        gives=("sparse",),
        load="pqd_prune.magnitude",
        no_gain={
            "latency_ms": "the runtime runs dense kernels, which take as long for a zero as for any other weight",
            "size_bytes": "the file stores zeros like other weights; size_zstd_bytes shows what they save compressed",
        },
    )
