"""PyTorch itself on the CPU: a `torch.export` program, run operator by operator or compiled by Inductor."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch.export.graph_signature import InputSpec
from torch.fx import Node

from pqd_core import Operator
from pqd_runtimes import TorchSettings, torch_execution
from pqd_runtimes.archive import read_program
from pqd_runtimes.program import exported_program, images_of, input_specs, layer_weights
from pqd_runtimes.refusals import EXPORT_AGAIN, check_one_input, known_shape, told_as
from pqd_runtimes.zero_points import without_zero_point


def export(model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: TorchSettings) -> Path:
    """`folder/model.pt2`, which `open_session` accepts: plain tensors and a graph of ATen operators, no pickle."""
    file, content = folder / "model.pt2", io.BytesIO()
    program = exported_program(model, example)
    with told_as("export", "the program cannot be saved", "deploy it with another runtime"):
        torch.export.save(program, content)  # a buffer, because the archive's inner names follow the file's
        file.write_bytes(content.getvalue())
    read_program(file)
    return file


class TorchSession:
    """A program, ready to run; each call sets the process's number of threads to the session's own."""

    def __init__(self, run: Callable[[Tensor], Tensor], threads: int) -> None:
        self._run: Callable[[Tensor], Tensor] | None = run
        self._threads = threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes), of normalized float32 images (N, C, H, W), which are read where they are."""
        assert self._run is not None, "the session is closed"
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.no_grad():
            logits: np.ndarray = self._run(torch.from_numpy(images)).numpy()
        return logits

    def close(self) -> None:
        """Give back the program's memory."""
        self._run = None


def open_session(file: Path, threads: int, settings: TorchSettings, batch: int | None = None) -> TorchSession:
    """Load `file` on `threads` threads; compiled, it is compiled now, for `batch` alone if that is given.

    One that takes images of any size is compiled for those that it is called with first, and again for others.

    Raises:
        DeployError: the file is damaged or is no file of ours, or there is no C++ compiler.
    """
    program = read_program(file, settings.max_megabytes)
    # The checks on input shapes would be compiled from source code in the file, and cost time in every call.
    module = program.module(check_guards=False)
    if settings.mode == "eager":
        return TorchSession(module, threads)
    session = TorchSession(_Frozen(module, batch), threads)
    hint = "install a C++ compiler (g++), or set mode: eager"
    shape = images_of(program)[1:]
    if all(isinstance(size, int) for size in shape):
        with told_as(file, "Inductor cannot compile it", hint):
            session(np.zeros((batch or 2, *shape), np.float32))
    return session


class _Frozen:
    """`module` compiled with its weights frozen; a quantized graph becomes oneDNN's INT8 operators."""

    def __init__(self, module: nn.Module, batch: int | None) -> None:
        # Importing the quantizer registers torchao's INT8 fusions with Inductor.
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401

        self._run = torch.compile(module, dynamic=batch is None)
        self._seen: set[torch.Size] = set()

    def __call__(self, images: Tensor) -> Tensor:
        if images.shape in self._seen:
            return cast("Tensor", self._run(images))
        # Dynamo reads this flag too, which `torch.compile(options=...)` sets for Inductor alone.
        with inductor_config.patch(freezing=True):
            logits = cast("Tensor", self._run(images))
        self._seen.add(images.shape)
        return logits


def execution(file: Path, settings: TorchSettings, shape: tuple[int, ...] | None = None) -> list[Operator]:
    """The operators that PyTorch really runs for one image, of `shape` where the file leaves that open.

    Compiled, as Inductor has frozen them.
    """
    program = read_program(file, settings.max_megabytes)
    with told_as(file, "what PyTorch runs of it cannot be told", EXPORT_AGAIN):
        image = known_shape(file, images_of(program)[1:], shape)
        if settings.mode == "eager":
            return torch_execution.eager_execution(program, image)
        return torch_execution.compiled_execution(file, program, image)


def input_shape(file: Path, settings: TorchSettings) -> tuple[int | None, ...]:
    """The images that the file takes (N, C, H, W), None where any size will do.

    Raises:
        DeployError: the file is refused, or takes anything but one tensor.
    """
    program = read_program(file, settings.max_megabytes)
    check_one_input(file, program.graph_signature.user_inputs)
    return tuple(size if isinstance(size, int) else None for size in images_of(program))


def weights(file: Path) -> dict[str, np.ndarray]:
    """The weight of each convolution and linear layer as the file stores it: int8 as integers, zero points removed."""
    program = read_program(file)
    specs, stored = input_specs(program), {**program.constants, **program.state_dict}
    found = {}
    for _, weight, dequantize in layer_weights(program):
        name = str(specs[weight.name].target)
        array = stored[name].detach().numpy()
        if dequantize is not None:
            zero_point, axis = _zero_point(dequantize.args, specs, stored)
            array = without_zero_point(array, zero_point, axis)
        found[name.removesuffix(".weight")] = array
    return found


def _zero_point(arguments: Any, specs: Mapping[str, InputSpec], stored: Mapping[str, Tensor]) -> tuple[np.ndarray, int]:
    """The zero point of a dequantization, and the axis it is laid out along."""
    _, _, zero_point, axis, *_ = arguments
    if not isinstance(zero_point, Node):  # per tensor: a number, and no axis
        return np.array(zero_point), 0
    return stored[str(specs[zero_point.name].target)].numpy(), axis
