"""Convolutions factorized into two thin ones: the stage `low-rank`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pqd_core import FactDef, Settings, StageDef, Training, hookimpl

LOW_RANK = FactDef("low-rank", "convolutions have become pairs of thin ones", "pqd_low_rank.pairs:probe")


class LowRankSettings(Settings):
    """How thin, and how the network is trained to bear it."""

    rank: float = Field(0.5, gt=0, le=1, description="Rank of each factorized layer, as a share of its full rank.")
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: what may be factorized.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: what stays whole all the same.")
    training: Training = Field(Training(lr=0.01), description="How the network is trained afterwards.")


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage, of a kind that pqd has never heard of."""
    yield StageDef(
        name="low-rank",
        kind="factorize",
        summary="Convolutions become two thin ones by singular value decomposition, where that saves weights.",
        settings=LowRankSettings,
        needs=("trainable", "plain-modules"),
        gives=(LOW_RANK,),
        keeps=("trainable", "plain-modules"),
        load="pqd_low_rank.stage",
    )
