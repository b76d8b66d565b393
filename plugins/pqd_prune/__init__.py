"""Pruning of single weights: `magnitude`, `n-m` and `lottery`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from pqd_core import Settings, StageDef, Training, hookimpl

DENSE_KERNELS = "the runtime runs dense kernels, which multiply by a zero as by any other weight"
SAME_SHAPES = "single weights were removed, not channels: every layer keeps its shape"


class Pruning(Settings):
    """Which layers are pruned, and how the network is trained meanwhile."""

    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: what is pruned.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: what is kept whole all the same.")
    training: Training = Field(Training(lr=0.02), description="How the network is trained after or while it is pruned.")


class ScheduledPruning(Pruning):
    """When weights go."""

    schedule: Literal["one-shot", "gradual"] = Field(
        "one-shot", description="All at once and then training, or more and more during training."
    )
    begin: float = Field(0.0, ge=0, lt=1, description="Gradual: share of the steps after which pruning begins.")
    end: float = Field(0.5, gt=0, le=1, description="Gradual: share of the steps after which pruning has ended.")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must be less than end ({self.end})")
        return self


class MagnitudeSettings(ScheduledPruning):
    """How many weights go, and among which they are compared."""

    sparsity: float = Field(0.7, gt=0, lt=1, description="Share of the included weights that are zero in the end.")
    scope: Literal["global", "layer"] = Field(
        "global", description="Compare weights over all included layers, or within each layer."
    )
    interval: int = Field(10, ge=1, description="Gradual: optimizer steps from one pruning to the next.")


class NMSettings(ScheduledPruning):
    """How many weights of how many stay."""

    n: int = Field(2, ge=1, description="Weights that may stay in each group.")
    m: int = Field(4, ge=2, le=64, description="Weights of a group: neighbours along the input channels.")

    @model_validator(mode="after")
    def _some_go(self) -> Self:
        if self.n >= self.m:
            raise ValueError(f"n ({self.n}) must be less than m ({self.m}), or nothing is pruned")
        return self


class LotterySettings(Pruning):
    """How much goes in how many rounds, and what goes back after each."""

    sparsity: float = Field(0.7, gt=0, lt=1, description="Share of the included weights that are zero in the end.")
    scope: Literal["global", "layer"] = Field(
        "global", description="Compare weights over all included layers, or within each layer."
    )
    rounds: int = Field(
        3, ge=1, le=100, description="Prunings, each followed by its share of the epochs; at most one for each epoch."
    )
    rewind: Literal["learning-rate", "weights"] = Field(
        "learning-rate",
        description="What goes back after each pruning: the learning rate alone, or also the weights that are left.",
    )
    rewind_epochs: int = Field(
        0, ge=0, description="Weights: go back to so many epochs after the start of training; they are trained anew."
    )


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """Three stages, which leave the same evidence: a mask for each weight."""
    yield StageDef(
        name="magnitude",
        kind="prune",
        summary="The smallest weights of convolutions and linear layers become zero and stay zero (unstructured).",
        settings=MagnitudeSettings,
        needs=("trainable",),
        gives=("sparse",),
        no_gain={"latency_ms": DENSE_KERNELS, "macs": SAME_SHAPES},
        load="pqd_prune.magnitude",
    )
    yield StageDef(
        name="n-m",
        kind="prune",
        summary="Of every M weights along the input channels only the N largest stay, 2 of 4 (semi-structured).",
        settings=NMSettings,
        needs=("trainable",),
        gives=("sparse",),
        no_gain={
            "latency_ms": f"{DENSE_KERNELS}; N:M is a pattern for hardware that skips zeros, as some accelerators do",
            "macs": SAME_SHAPES,
        },
        load="pqd_prune.n_m",
    )
    yield StageDef(
        name="lottery",
        kind="prune",
        summary="Magnitude pruning in rounds; weights or learning rate are rewound after each (Renda et al. 2020).",
        settings=LotterySettings,
        needs=("trainable",),
        gives=("sparse",),
        no_gain={"latency_ms": DENSE_KERNELS, "macs": SAME_SHAPES},
        load="pqd_prune.lottery",
    )
