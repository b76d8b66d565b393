"""INT8 by quantization-aware training: `int8-qat`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pqd_core import Settings, StageDef, Training, hookimpl


class Int8QatSettings(Settings):
    """What becomes INT8, on which grid, and how the network is trained to bear it."""

    weight_range: Literal["auto", "full", "reduced"] = Field(
        "auto",
        description="Integers of a weight: 'full' is [-127, 127]; 'reduced' is [-64, 64], exact on CPUs without VNNI; "
        "'auto' asks the CPU of the machine where the stage first runs.",
    )
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: what becomes INT8.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: what stays float all the same.")
    calibration_images: int = Field(
        1024, ge=1, description="Training images that set the ranges of activations before training."
    )
    range_momentum: float = Field(
        0.01, gt=0, le=1, description="Weight of the newest batch in the moving average of an activation's range."
    )
    freeze_at: float = Field(
        0.75, gt=0, le=1, description="Share of the training after which ranges and batch-norm statistics stand still."
    )
    training: Training = Field(
        Training(lr=0.01, weight_decay=1e-4), description="How the network is trained under simulated quantization."
    )


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """One stage."""
    yield StageDef(
        name="int8-qat",
        kind="quantize",
        summary="Convolutions and linear layers in INT8, trained under simulated quantization (Jacob et al. 2018).",
        settings=Int8QatSettings,
        needs=("trainable", "plain-modules"),
        gives=("fake-quant",),
        ends=("plain-modules",),
        load="pqd_int8.int8_qat",
    )
