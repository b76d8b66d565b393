"""ONNX Runtime on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from pqd_core import Operator
from pqd_runtimes import OnnxRuntimeSettings, onnx_graph
from pqd_runtimes.float_layers import keep_float
from pqd_runtimes.linear_layers import part_relus
from pqd_runtimes.onnx_bytes import serialized
from pqd_runtimes.onnx_graph import images_of, read_onnx, weights
from pqd_runtimes.refusals import EXPORT_AGAIN, told_as

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

__all__ = ["OnnxSession", "execution", "export", "input_shape", "open_session", "weights"]

ERRORS_ONLY = 3


def export(model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: OnnxRuntimeSettings) -> Path:
    """`folder/model.onnx`, a copy of the ONNX file in `shared` in which layers run in what they are stored in."""
    from pqd_runtimes.onnx_file import onnx_file  # a process that only runs a file needs no torch

    source, file = onnx_file(model, example, shared), folder / "model.onnx"
    proto = onnx.load_model(source)
    rewrites = [keep_float(proto.graph), part_relus(proto.graph)]
    if any(rewrites):
        file.write_bytes(serialized(proto))
    else:
        shutil.copyfile(source, file)
    return file


class OnnxSession:
    """An ONNX file, ready to run."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._input = session.get_inputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes), of normalized float32 images (N, C, H, W)."""
        assert self._session is not None, "the session is closed"
        logits: np.ndarray = self._session.run(None, {self._input: images})[0]
        return logits

    def close(self) -> None:
        """Give back the session's memory and threads."""
        self._session = None


def open_session(file: Path, threads: int, settings: OnnxRuntimeSettings, batch: int | None = None) -> OnnxSession:
    """Load `file` on `threads` threads, one operator at a time; a fixed `batch` gives every tensor a known size.

    Raises:
        DeployError: the file is damaged or is no file of ours.
    """
    model = read_onnx(file, settings.max_megabytes)
    options = session_options(threads, settings)
    if batch is not None:
        _fix_batch(options, model, batch)
    with told_as(file, "ONNX Runtime cannot load it", EXPORT_AGAIN):
        return OnnxSession(onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]))


def input_shape(file: Path, settings: OnnxRuntimeSettings) -> tuple[int | None, ...]:
    """The images that the file takes (N, C, H, W), None where any size will do."""
    return onnx_graph.input_shape(file, settings.max_megabytes)


def execution(file: Path, settings: OnnxRuntimeSettings, shape: tuple[int, ...] | None = None) -> list[Operator]:
    """The operators that ONNX Runtime really runs for one image, of `shape` where the file leaves that open."""
    from pqd_runtimes import onnx_execution

    options = session_options(1, settings)
    _fix_batch(options, read_onnx(file, settings.max_megabytes), 1)
    return onnx_execution.execution(file, options, settings, shape)


def _fix_batch(options: onnxruntime.SessionOptions, model: ModelProto, batch: int) -> None:
    """The first dimension of the images, whatever the file calls it, is `batch`."""
    for value in images_of(model.graph)[:1]:
        for dim in value.type.tensor_type.shape.dim[:1]:
            if dim.dim_param:
                options.add_free_dimension_override_by_name(dim.dim_param, batch)


def session_options(threads: int, settings: OnnxRuntimeSettings) -> onnxruntime.SessionOptions:
    """Options for one request at a time on `threads` threads, the calling one among them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
    # Else the threads go on spinning after a call, and slow down whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
