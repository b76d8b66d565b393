"""OpenVINO on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from openvino._offline_transformations import apply_moc_transformations

from pqd_core import Operator
from pqd_runtimes import MAX_MEGABYTES, OpenVinoSettings, openvino_execution
from pqd_runtimes.kernels import pad_before_pools, scale_channels
from pqd_runtimes.onnx_graph import read_onnx
from pqd_runtimes.openvino_kernels import choose_kernels
from pqd_runtimes.refusals import EXPORT_AGAIN, check_one_input, check_size, known_shape, refuse, told_as
from pqd_runtimes.residual_rounding import keep_residual_rounding
from pqd_runtimes.zero_points import without_zero_point

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYERS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
DEQUANTIZE = frozenset({"Convert", "Subtract", "Multiply", "FakeQuantize", "Reshape", "Transpose"})
MADE_UP = re.compile(r"[A-Z][A-Za-z]*_\d+")
"""`Convert_731`: an operator's type and a running number."""


def export(model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: OpenVinoSettings) -> Path:
    """`folder/model.xml` and, beside it, `model.bin`: OpenVINO's form of the ONNX file in `shared`."""
    import torch  # a process that only runs a file needs none

    from pqd_runtimes.onnx_file import onnx_file

    source, file = onnx_file(model, example, shared), folder / "model.xml"
    with told_as(source, "OpenVINO cannot convert it", "deploy it with another runtime"):
        proto = read_onnx(source)
        scale_channels(proto.graph)
        pad_before_pools(proto.graph)
        # What openvino.convert_model does, but for reporting its use over the network: fold and clean the graph.
        converted = openvino.Core().read_model(proto.SerializeToString())
        apply_moc_transformations(converted, cf=False, smart_reshape=True)
        keep_residual_rounding(converted)
        _number_names(converted)
        openvino.save_model(converted, file, compress_to_fp16=False)
    if settings.kernels_for_batch is not None:
        with told_as(file, "its kernels cannot be timed", "choose a smaller kernels_for_batch, or leave it out"):
            images = np.zeros((settings.kernels_for_batch, *example.shape[1:]), np.float32)
            choose_kernels(file, images, session_options(torch.get_num_threads(), settings))
    return file


def _number_names(model: openvino.Model) -> None:
    """Names that OpenVINO makes up count from the start of the process; now they count from the start of the model."""
    for index, operator in enumerate(model.get_ordered_ops()):
        if MADE_UP.fullmatch(operator.get_friendly_name()):
            operator.set_friendly_name(f"{operator.get_type_name()}_{index}")


class OpenVinoSession:
    """A compiled model with one request."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self.compiled: openvino.CompiledModel | None = compiled
        self._request: Any = compiled.create_infer_request()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes), of normalized float32 images (N, C, H, W), which are read where they are."""
        tensor = openvino.Tensor(np.ascontiguousarray(images), shared_memory=True)
        self._request.infer(tensor, share_inputs=True, share_outputs=True)
        logits: np.ndarray = self._request.get_output_tensor(0).data.copy()  # the next call overwrites it
        return logits

    def close(self) -> None:
        """Give back the model's memory."""
        self._request = self.compiled = None


def open_session(file: Path, threads: int, settings: OpenVinoSettings, batch: int | None = None) -> OpenVinoSession:
    """Compile `file` for single requests on `threads` threads; a fixed `batch` gives every tensor a known size.

    Raises:
        DeployError: the file is damaged or is no file of ours.
    """
    model = read_ir(file, settings.max_megabytes)
    options = session_options(threads, settings)
    with told_as(file, "OpenVINO cannot compile it", EXPORT_AGAIN):
        if batch is not None:
            model.reshape([batch, *list(model.input(0).partial_shape)[1:]])
        return OpenVinoSession(openvino.Core().compile_model(model, "CPU", options))


def session_options(threads: int, settings: OpenVinoSettings) -> dict[str, Any]:
    """Options for one request at a time on `threads` threads."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": settings.precision,
    }


def execution(file: Path, settings: OpenVinoSettings, shape: tuple[int, ...] | None = None) -> list[Operator]:
    """The operators that OpenVINO really runs for one image, of `shape` where the file leaves that open."""
    image = known_shape(file, input_shape(file, settings)[1:], shape)
    session = open_session(file, 1, settings, batch=1)
    with told_as(file, "OpenVINO cannot run it", EXPORT_AGAIN):
        session(np.zeros((1, *image), np.float32))  # only now are sizes known that the file leaves open
        assert session.compiled is not None
        return openvino_execution.execution(session.compiled)


def input_shape(file: Path, settings: OpenVinoSettings) -> tuple[int | None, ...]:
    """The images that the file takes (N, C, H, W), None where any size will do.

    Raises:
        DeployError: the file is refused, or takes anything but one float32 tensor.
    """
    images = check_one_input(file, read_ir(file, settings.max_megabytes).inputs)
    if images.get_element_type() != openvino.Type.f32:
        raise refuse(file, "it does not take float32", "export it with a float32 input")
    shape = images.get_partial_shape()
    if shape.rank.is_dynamic:
        raise refuse(file, "it does not say how many dimensions its images have", EXPORT_AGAIN)
    return tuple(None if dim.is_dynamic else dim.get_length() for dim in shape)


def read_ir(file: Path, max_megabytes: int = MAX_MEGABYTES) -> openvino.Model:
    """The model in `file`, with the weights in the `.bin` beside it unless it is an ONNX file."""
    if file.suffix == ".onnx":
        read_onnx(file, max_megabytes)
        with told_as(file, "OpenVINO cannot read it", EXPORT_AGAIN):
            return openvino.Core().read_model(file)
    parameters = file.with_suffix(".bin")
    for part in (file, parameters):
        check_size(part, max_megabytes)
    with told_as(file, "OpenVINO cannot read it", EXPORT_AGAIN):
        return openvino.Core().read_model(file, parameters)


def weights(file: Path) -> dict[str, np.ndarray]:
    """The weight of each convolution and linear layer as the file stores it: int8 as integers, zero points removed."""
    found = {}
    for layer in read_ir(file).get_ordered_ops():
        if layer.get_type_name() not in LAYERS:
            continue
        *steps, source = _upstream(layer.input_value(1).get_node())
        if source.get_type_name() == "Constant":
            found[_layer_name(layer, source)] = _without_zero_point(np.array(source.data), steps)
    return found


def _upstream(node: Any) -> Iterator[Any]:
    yield node
    while node.get_type_name() in DEQUANTIZE:
        yield (node := node.input_value(0).get_node())


def _layer_name(layer: Any, constant: Any) -> str:
    """That of its weight, unless OpenVINO has reshaped the weight: then the layer's own."""
    name: str = constant.get_friendly_name()
    if MADE_UP.fullmatch(name):
        name = layer.get_friendly_name().partition("/")[0]
    return name.removesuffix(".weight")


def _without_zero_point(stored: np.ndarray, steps: list[Any]) -> np.ndarray:
    for step in steps:
        if step.get_type_name() == "Subtract":
            zero = next(
                node for node in _upstream(step.input_value(1).get_node()) if node.get_type_name() == "Constant"
            )
            return without_zero_point(stored, np.array(zero.data), axis=0)
    return stored
