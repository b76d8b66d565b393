"""What ONNX Runtime really runs of a file, once it has fused and rewritten the graph."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pqd_core import Operator
from pqd_runtimes import OnnxRuntimeSettings, onnx_graph
from pqd_runtimes.refusals import EXPORT_AGAIN, known_shape, told_as

CONVERT = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear", "Cast"})
MOVE = frozenset(
    {
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Concat", "QLinearConcat", "Split"),
        *("Slice", "Gather", "Shape", "Expand", "Pad", "ReorderInput", "ReorderOutput"),
    }
)
WEIGHTED = {
    # operator: the place of its weight among its inputs
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"), 1),
    **dict.fromkeys(
        ("ConvTranspose", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), 1
    ),
    **dict.fromkeys(("QLinearConv", "QGemm", "QLinearMatMul"), 3),
}
INTEGERS = frozenset({"uint8", "int8"})
QUANTIZES_ITSELF = frozenset({"DynamicQuantizeMatMul"})
"""It takes float values and multiplies them as integers."""
PADS_CHANNELS = "NchwcTransformer"
"""It pads the channels of float convolutions to whole vectors and takes their names; integers it leaves alone."""
RENUMBERED = re.compile(r"_token_\d+")
KERNEL = "_kernel_time"
Tensors = list[tuple[str, list[int]]]


def execution(
    file: Path, options: onnxruntime.SessionOptions, settings: OnnxRuntimeSettings, shape: tuple[int, ...] | None
) -> list[Operator]:
    """The operators of one inference, in order, as the runtime's own profile tells them; the work is of one image.

    Float convolutions are told as they are before their channels are padded: with their own sizes and names.

    Args:
        file: an ONNX file.
        options: those of a session that would be timed; changed here.
        settings: the runtime's.
        shape: that of an image, (C, H, W), if the file's own leaves sizes open.

    Raises:
        DeployError: the file is refused.
    """
    images, *takes = onnx_graph.input_shape(file, settings.max_megabytes)
    batch = np.zeros((images or 1, *known_shape(file, takes, shape)), np.float32)
    with told_as(file, "ONNX Runtime cannot run it", EXPORT_AGAIN), tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        options.add_session_config_entry("session.disable_prepacking", "1")  # else a weight is no input any more
        session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"], disabled_optimizers=[PADS_CHANNELS]
        )
        session.run(None, {session.get_inputs()[0].name: batch})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [event for event in events if event["cat"] == "Node" and event["name"].endswith(KERNEL)]
    layers = _layers(file, settings)
    return [_operator(event, layers, images=len(batch)) for event in ran]


def _layers(file: Path, settings: OnnxRuntimeSettings) -> dict[str, str]:
    """What the weight of each layer is known by, by the name of its node; the same in a file of ours."""
    graph = onnx_graph.read_onnx(file, settings.max_megabytes).graph
    return {node.name: onnx_graph.layer_of(tensor) for node, tensor, _ in onnx_graph.layer_weights(graph) if node.name}


def _operator(event: dict[str, Any], layers: Mapping[str, str], images: int) -> Operator:
    told, kind = event["args"], event["args"]["op_name"]
    inputs, outputs = (_tensors(told[key]) for key in ("input_type_shape", "output_type_shape"))
    name = RENUMBERED.sub("", event["name"].removesuffix(KERNEL))
    return Operator(
        name=layers.get(name, name),
        kind=kind,
        role="convert" if kind in CONVERT else "move" if kind in MOVE else "compute",
        integer=kind in QUANTIZES_ITSELF or (bool(inputs) and inputs[0][0] in INTEGERS),
        macs=_macs(kind, inputs, outputs) // images,
    )


def _tensors(told: list[dict[str, list[int]]]) -> Tensors:
    return [next(iter(tensor.items())) for tensor in told if tensor]


def _macs(kind: str, inputs: Tensors, outputs: Tensors) -> int:
    """Each output value is a sum over the inputs of one position: a kernel's, or a row's; transposed, each input is."""
    if kind not in WEIGHTED or len(inputs) <= WEIGHTED[kind]:
        return 0
    weight = inputs[WEIGHTED[kind]][1]
    scanned = inputs[0][1] if kind == "ConvTranspose" else outputs[0][1]
    return prod(scanned) * (prod(weight[1:]) if "Conv" in kind else inputs[0][1][-1])
