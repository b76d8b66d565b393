"""Which of the CPU's kernels each convolution of an OpenVINO file runs in, chosen by timing both.

For INT8 convolutions oneDNN has a matrix kernel (`brgconv`), which OpenVINO always takes, and an older direct one
(`jit`). Which is faster, and by how much, depends on the shape, the batch and the CPU: on the machine of
`benchmarks/results/deploy/` the direct one is for images of three channels, for steps of two pixels and, in large
batches, for maps of a few pixels. OpenVINO reads an operator's preference from its attribute `primitives_priority` and
passes over one that it cannot meet, so a file with preferences runs everywhere.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino

from pqd_core import get_logger

ATTRIBUTE, ON_CPU = "primitives_priority", "cpu:"
CONVOLUTIONS = ("Convolution", "GroupConvolution")
MATRIX_KERNEL = re.compile(r"brgconv_(avx2|avx512)(_1x1)?_i8", re.IGNORECASE)
"""What has a direct counterpart; where the CPU multiplies in tiles (AMX) nothing comes near the matrix kernel."""
TAKES = 12
GAIN = 0.98
"""A kernel has to take less than this share of the other's time, in the middle one of all takes, to be preferred."""
CALLS = 8
LEAST_ROUNDS, LEAST_SECONDS, MOST_SECONDS = 3, 2.0, 5.0
"""Of each take."""
MICROSECOND = timedelta(microseconds=1)
Kernels = dict[str, str]


class Counted:
    """A network compiled to count the microseconds of each operator."""

    def __init__(self, model: openvino.Model, images: np.ndarray, options: Mapping[str, Any]) -> None:
        model.reshape(list(images.shape))
        compiled = openvino.Core().compile_model(model, "CPU", {**options, "PERF_COUNT": True})
        self.operators: list[Any] = compiled.get_runtime_model().get_ordered_ops()
        """What runs, in order, as OpenVINO describes it."""
        self._request, self._images = compiled.create_infer_request(), openvino.Tensor(images)
        self._rounds: list[Counter[str]] = []

    def call(self) -> None:
        """A round of calls, the first of them unseen; sums are kept, as times come in whole microseconds."""
        sums: Counter[str] = Counter()
        self._request.infer(self._images)
        for _ in range(CALLS):
            self._request.infer(self._images)
            for told in self._request.get_profiling_info():
                sums[told.node_name] += told.real_time // MICROSECOND
        self._rounds.append(sums)

    def kernels(self) -> Kernels:
        """The kernel of each operator."""
        return {told.get_friendly_name(): describe(told)["primitiveType"] for told in self.operators}

    def microseconds(self, name: str) -> np.ndarray:
        """An operator's time for one call, the mean of each round."""
        return np.maximum(1, [sums[name] for sums in self._rounds]) / CALLS


def describe(operator: Any) -> dict[str, str]:
    """What OpenVINO says about an operator that it runs."""
    return {key: str(value.astype(str)) for key, value in operator.get_rt_info().items()}


def choose_kernels(file: Path, images: np.ndarray, options: Mapping[str, Any]) -> Kernels:
    """The kernel that each convolution prefers from now on; `file` is rewritten to say so.

    Args:
        file: an IR, `model.xml` with its `.bin` beside it.
        images: a batch of the size that the file is to be fast for, float32 (N, C, H, W).
        options: what OpenVINO is to compile with.
    """
    kernels = _counted(file, file, images, options).kernels()
    asked = {name: f"jit_{found[1]}" for name, kernel in kernels.items() if (found := MATRIX_KERNEL.match(kernel))}
    if not asked:
        get_logger("openvino").warning("no convolution has kernels to choose from (in float, or on this CPU)")
        return {}
    with TemporaryDirectory() as folder:
        direct = Path(shutil.copy(file, folder))
        prefer(direct, asked)
        takes = [_times(file, direct, images, options) for _ in range(TAKES)]
    chosen = {name: asked[name] for name in asked if np.median([take.get(name, 1.0) for take in takes]) < GAIN}
    if chosen:
        prefer(file, chosen)
    get_logger("openvino").info("kernels timed", batch=len(images), convolutions=len(asked), direct=sorted(chosen))
    return chosen


def _times(file: Path, direct: Path, images: np.ndarray, options: Mapping[str, Any]) -> dict[str, float]:
    """Times in `direct` as shares of those in `file`, for operators that have another kernel there.

    Both are compiled anew: where their memory comes to lie makes some operators faster and others slower.
    """
    own, other = (_counted(form, file, images, options) for form in (file, direct))
    _in_turns(own, other)
    kernels = own.kernels()
    differ = [name for name, kernel in other.kernels().items() if kernels.get(name, kernel) != kernel]
    return {name: float(np.median(other.microseconds(name) / own.microseconds(name))) for name in differ}


def prefer(file: Path, kernels: Kernels) -> None:
    """Write into `file` which kernel each convolution prefers."""
    tree = ElementTree.parse(file)
    for layer in tree.iter("layer"):
        if layer.get("type") in CONVOLUTIONS and (kernel := kernels.get(str(layer.get("name")))):
            attributes = layer.find("rt_info")
            if attributes is None:
                attributes = ElementTree.Element("rt_info")
                layer.insert(list(layer).index(layer.find("input")), attributes)  # type: ignore[arg-type]
            ElementTree.SubElement(attributes, "attribute", name=ATTRIBUTE, version="0", value=f"{ON_CPU}{kernel}")
    tree.write(file, encoding="utf-8", xml_declaration=True)


def preferred(file: Path) -> Kernels:
    """The kernel of each convolution of `file` that prefers one."""
    wishes = {
        str(layer.get("name")): layer.find(f"rt_info/attribute[@name='{ATTRIBUTE}']")
        for layer in ElementTree.parse(file).iter("layer")
    }
    return {name: str(wish.get("value")).removeprefix(ON_CPU) for name, wish in wishes.items() if wish is not None}


def _counted(form: Path, file: Path, images: np.ndarray, options: Mapping[str, Any]) -> Counted:
    """The network as `form` has it, on the weights of `file`."""
    return Counted(openvino.Core().read_model(form, file.with_suffix(".bin")), images, options)


def _in_turns(*files: Counted) -> None:
    """Rounds of both, so that a slow moment of the machine meets both."""
    began = time.monotonic()
    for done in count(1):
        for counted in files[:: 1 if done % 2 else -1]:
            counted.call()
        seconds = time.monotonic() - began
        if seconds > MOST_SECONDS or (done >= LEAST_ROUNDS and seconds > LEAST_SECONDS):
            return
