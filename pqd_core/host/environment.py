"""What a number was measured on: the machine, its instructions and the versions."""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pqd_core.host.words import counted

INT8_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512vnni", "amx_int8", "asimddp", "i8mm")
PACKAGES = (
    "pqd",
    "torch",
    "torchvision",
    "torchao",
    "accelerate",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "numpy",
)


MOST_PER_CPU = 16
"""More threads than that for each CPU only wait for one another, and libraries die of them."""


def _as_cpus_allow(threads: int) -> int:
    cpus = os.cpu_count() or 1
    if threads > (most := MOST_PER_CPU * cpus):
        raise ValueError(f"{threads} are too many for {counted(cpus, 'CPU')}; write {most} at most")
    return threads


Threads = Annotated[int, Field(ge=1), AfterValidator(_as_cpus_allow)]
"""A number of CPU threads that this machine can run."""


@lru_cache(maxsize=1)
def describe_cpu() -> dict[str, Any]:
    """The CPU's model, the cores this process may use, and which of the instructions that INT8 kernels use it has."""
    from cpuinfo import get_cpu_info

    try:
        info = get_cpu_info()
    except Exception:  # it raises bare ones where it does not know the architecture
        info = {}
    return {
        "model": info.get("brand_raw", platform.processor() or "unknown"),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "flags": [flag for flag in INT8_FLAGS if flag in info.get("flags", ())],
    }


def usable_cores() -> int:
    """How many cores the operating system gives this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe_environment(threads: int, device: str) -> dict[str, Any]:
    """Everything that a reader needs in order to judge or repeat a number."""
    return {
        "cpu": describe_cpu(),
        "memory_gib": _memory_gib(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "threads": threads,
        "device": device,
        "accelerator": _accelerator_name(device),
        "versions": {name: found for name in PACKAGES if (found := package_version(name))},
    }


def _memory_gib() -> float | None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    return round(int(meminfo.read_text().split("MemTotal:")[1].split()[0]) / 2**20, 1)


def _accelerator_name(device: str) -> str | None:
    if device != "cuda":
        return None
    import torch

    return torch.cuda.get_device_name()
