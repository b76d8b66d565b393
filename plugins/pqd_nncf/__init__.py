"""INT8 by NNCF's fake quantizers, whose ranges are trained with the weights (`nncf-int8`); extra `pqd[nncf]`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from pqd_core import Plan, Problem, Settings, StageDef, Training, hookimpl

# NNCF reports each call over the network; without this module it does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

HERE = "nncf-int8"
WITHOUT_IT = "or quantize with int8-qat, which compiles nothing"


class NncfInt8Settings(Settings):
    """What becomes INT8 on which grid, and how the network is trained to bear it."""

    preset: Literal["mixed", "performance"] = Field(
        "mixed",
        description="Grid of an activation, in NNCF's words: 'mixed' lies where the values do; 'performance' has zero "
        "in its middle if values are negative.",
    )
    weight_range: Literal["full", "reduced"] = Field(
        "full",
        description="Integer that the largest weight of a channel is before training: 127, or 64, which is exact on "
        "CPUs without VNNI. Ranges are trained, so 64 is no bound.",
    )
    include: tuple[str, ...] = Field(("*",), description="Globs over layer names: what becomes INT8.")
    exclude: tuple[str, ...] = Field((), description="Globs over layer names: what stays float all the same.")
    calibration_images: int = Field(1024, ge=1, description="Training images that set the ranges training begins with.")
    freeze_at: float = Field(
        0.75, gt=0, le=1, description="Share of the training after which batch-norm statistics stand still."
    )
    training: Training = Field(
        Training(lr=0.01, weight_decay=1e-4), description="How the network is trained under simulated quantization."
    )


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """A second quantizer, from another library."""
    yield StageDef(
        name="nncf-int8",
        kind="quantize",
        summary="INT8 where NNCF puts it, with trained ranges (Jain et al. 2020); needs pqd[nncf].",
        settings=NncfInt8Settings,
        needs=("trainable", "plain-modules"),
        gives=("fake-quant",),
        ends=("plain-modules",),
        version="3",
        load="pqd_nncf.nncf_int8",
    )


@hookimpl
def pqd_check_plan(plan: Plan) -> Iterable[Problem]:
    """NNCF has to be here, and what it compiles its kernels with."""
    if any(step.stage and isinstance(step.stage.settings, NncfInt8Settings) for step in plan.steps):
        yield from missing_tools()


def missing_tools() -> Iterator[Problem]:
    """What NNCF needs and this machine has not."""
    if find_spec("nncf") is None:
        yield Problem(HERE, "nncf is not installed", "python3 -m pip install 'pqd[nncf]'")
        return
    compiler = os.environ.get("CXX", "c++")
    for tool, what in ((compiler, "C++ compiler"), ("ninja", "ninja")):
        if shutil.which(tool, path=search_path()) is None:
            found = f"NNCF compiles its kernels when it is first used, and there is no {what} ({tool}) on the PATH"
            yield Problem(HERE, found, f"install g++ and ninja, {WITHOUT_IT}")


def search_path() -> str:
    """The PATH with the folder of this environment's programs, where pip has put ninja."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
