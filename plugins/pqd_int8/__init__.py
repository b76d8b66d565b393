"""INT8 for CPU runtimes: trained under simulated quantization (`int8-qat`), or only calibrated (`int8-ptq`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pqd_core import CheckupDef, Plan, Problem, Settings, StageDef, Training, hookimpl

Observer = Literal["moving-average", "min-max", "percentile", "mse"]


class Int8Settings(Settings):
    """What becomes INT8, and on which grid."""

    weight_range: Literal["auto", "full", "reduced"] = Field(
        "auto",
        description="Integers of a weight: 'full' is [-127, 127]; 'reduced' is [-64, 64], exact on CPUs without VNNI; "
        "'auto' asks the CPU of the machine where the stage first runs.",
    )
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: what becomes INT8.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: what stays float all the same.")
    keep_float: tuple[Literal["first", "last"], ...] = Field(
        (), description="Whether the network's first layer, its last one, or both stay float; they lose most by INT8."
    )
    activations: Literal["affine", "symmetric"] = Field(
        "affine",
        description="Grid of an activation: 'affine' lies where the values do; 'symmetric' has zero in its middle if "
        "values are negative, which some kernels prefer.",
    )
    residual_step: Literal["shared", "own"] = Field(
        "shared",
        description="'shared': what residual additions read and write has one step, so that they add integers; 'own': "
        "each value has the step of its own range, and additions round once more.",
    )
    observer: Observer = Field(
        "moving-average",
        description="How the images of the calibration set a range: mean over batches of the extremes, widest "
        "extremes, all but the outermost values (percentile), or least squared error of rounding and clipping (mse).",
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="For the observer 'percentile': per cent of the values within each end."
    )
    calibration_images: int = Field(1024, ge=1, description="Training images that set the ranges of activations.")


class Int8PtqSettings(Int8Settings):
    """What becomes INT8, and on which grid; nothing is trained."""

    observer: Observer = Field("mse", description=Int8Settings.model_fields["observer"].description)


class Int8QatSettings(Int8Settings):
    """What becomes INT8, on which grid, and how the network is trained to bear it."""

    range_momentum: float = Field(
        0.01, gt=0, le=1, description="Weight of the newest batch in the moving average of an activation's range."
    )
    freeze_at: float = Field(
        0.75, gt=0, le=1, description="Share of the training after which ranges and batch-norm statistics stand still."
    )
    batch_norm_freeze_epoch: int | None = Field(
        None,
        ge=0,
        description="Epochs of this stage after which batch-norm statistics stand still; 0: from the start; "
        "with the ranges, by freeze_at, if not given.",
    )
    training: Training = Field(
        Training(lr=0.01, weight_decay=1e-4), description="How the network is trained under simulated quantization."
    )


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """Two ways to the same graph."""
    yield StageDef(
        name="int8-qat",
        kind="quantize",
        summary="Convolutions and linear layers in INT8, trained under simulated quantization (Jacob et al. 2018).",
        settings=Int8QatSettings,
        needs=("trainable", "plain-modules"),
        gives=("fake-quant",),
        ends=("plain-modules",),
        version="5",
        load="pqd_int8.int8_qat",
    )
    yield StageDef(
        name="int8-ptq",
        kind="quantize",
        summary="Convolutions and linear layers in INT8, calibrated on training images; nothing is trained.",
        settings=Int8PtqSettings,
        needs=("plain-modules",),
        gives=("fake-quant",),
        ends=("plain-modules",),
        trains=False,
        version="4",
        load="pqd_int8.int8_ptq",
    )


@hookimpl
def pqd_check_plan(plan: Plan) -> Iterable[Problem]:
    """A batch norm cannot be frozen after the training has ended."""
    for step in plan.steps:
        settings = step.stage.settings if step.stage else None
        freeze = settings.batch_norm_freeze_epoch if isinstance(settings, Int8QatSettings) else None
        if freeze is not None and freeze > step.epochs:
            what = f"is {freeze}, but the stage trains for {step.epochs} epochs in {' -> '.join(step.pipeline)}"
            yield Problem(f"{step.name}.batch_norm_freeze_epoch", what, f"write at most {step.epochs}")


@hookimpl
def pqd_checkups() -> Iterable[CheckupDef]:
    """Whether this CPU's INT8 arithmetic is exact."""
    yield CheckupDef(
        name="int8", summary="Whether this CPU adds INT8 products up exactly.", load="pqd_int8.checkups:saturation"
    )
