"""Structured pruning: `channel` takes whole channels out, so that the network does less work on any hardware."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pqd_core import FactDef, Settings, StageDef, Training, hookimpl

NARROW = FactDef(
    name="narrow",
    summary="its layers have the widths that pruning of channels left",
    probe="pqd_channel.narrow:probe",
)


class ChannelSettings(Settings):
    """How much work stays, which channels go, and how the network is trained around them."""

    macs: float = Field(0.5, gt=0, lt=1, description="Share of the multiply-adds that stays, at most.")
    importance: Literal["l1", "l2", "taylor"] = Field(
        "l2",
        description="What a channel is worth: the norm of its weights, or how much the loss would change without them.",
    )
    images: int = Field(512, ge=1, description="Taylor: training images whose loss is asked.")
    scope: Literal["global", "layer"] = Field(
        "global", description="Compare channels over all layers, or take the same share of each layer."
    )
    multiple: int = Field(16, ge=1, description="Widths stay multiples of this; integer kernels work on groups of 16.")
    min_width: int = Field(16, ge=1, description="Channels that each layer keeps at least.")
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: whose output channels may go.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: whose output channels stay.")
    rounds: int = Field(1, ge=1, le=100, description="Prune in so many rounds, each with its share of the epochs.")
    training: Training = Field(Training(lr=0.02), description="How the network is trained after each pruning.")


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage."""
    yield StageDef(
        name="channel",
        kind="prune",
        summary="The least important channels go, with all that depends on them, until a share of the work is left.",
        settings=ChannelSettings,
        needs=("trainable", "plain-modules"),
        gives=(NARROW,),
        version="2",
        load="pqd_channel.channel",
    )
