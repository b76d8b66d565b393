"""Runtimes to deploy to: ONNX Runtime, OpenVINO, and PyTorch itself (eager or compiled)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from pqd_core import CheckupDef, RuntimeDef, Settings, describe_cpu, hookimpl

MAX_MEGABYTES = 2048

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO reports each import over the network, whatever the environment says; without this module it does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class RuntimeSettings(Settings):
    """What every runtime here has."""

    max_megabytes: int = Field(MAX_MEGABYTES, ge=1, description="Files larger than this are not opened.")


class OnnxRuntimeSettings(RuntimeSettings):
    """Settings of `onnxruntime`."""

    spinning: bool = Field(
        True,
        description="Threads wait for the next operator in a busy loop: faster, and it burns CPU during a call "
        "(never between calls).",
    )


class OpenVinoSettings(RuntimeSettings):
    """Settings of `openvino`."""

    precision: Literal["f32", "bf16", "f16"] = Field(
        "f32",
        description="What float operators compute in. Left alone, OpenVINO silently takes bf16 where the CPU has it.",
    )
    kernels_for_batch: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Batch size for which each INT8 convolution gets the kernel that is the fastest here, by timing "
        "when the file is made (3 to 20 seconds, or one round of calls). Without it OpenVINO chooses.",
    )


def timed_on(settings: OpenVinoSettings, threads: int) -> dict[str, Any]:
    """The CPU and the threads for which kernels are chosen by timing, if they are."""
    if settings.kernels_for_batch is None:
        return {}
    cpu = describe_cpu()
    return {"cpu": {name: cpu[name] for name in ("model", "architecture", "flags")}, "threads": threads}


class TorchSettings(RuntimeSettings):
    """Settings of `torch`."""

    mode: Literal["eager", "compiled"] = Field(
        "eager",
        description="eager runs the graph operator by operator, quantization simulated in float; compiled freezes it "
        "with Inductor, which runs INT8 on x86 and needs a C++ compiler.",
    )


RUNTIMES = (
    RuntimeDef(
        name="onnxruntime",
        summary="An ONNX file, run by ONNX Runtime on the CPU.",
        settings=OnnxRuntimeSettings,
        version="5",
        load="pqd_runtimes.onnx_runtime",
        requires=("onnxruntime", "onnx", "onnxscript", "torch"),
        opens={".onnx": ()},
    ),
    RuntimeDef(
        name="openvino",
        summary="An OpenVINO IR (model.xml and model.bin), run by OpenVINO on the CPU.",
        settings=OpenVinoSettings,
        version="6",
        load="pqd_runtimes.openvino_runtime",
        requires=("openvino", "onnx", "onnxscript", "torch"),
        opens={".xml": (".bin",), ".onnx": ()},
        tuned_to=timed_on,
    ),
    RuntimeDef(
        name="torch",
        summary="A torch.export program (.pt2), run by PyTorch on the CPU, eager or compiled.",
        settings=TorchSettings,
        load="pqd_runtimes.torch_runtime",
        requires=("torch", "torchao"),
        opens={".pt2": ()},
    ),
)


@hookimpl
def pqd_runtimes() -> Iterable[RuntimeDef]:
    """Bring the runtimes."""
    return RUNTIMES


@hookimpl
def pqd_checkups() -> Iterable[CheckupDef]:
    """Whether the runtimes load."""
    yield CheckupDef(
        name="runtimes", summary="Which runtimes load, and their versions.", load="pqd_runtimes.checkups:runtimes"
    )
