"""What OpenVINO really runs of a file, once it has fused and rewritten the graph."""

from __future__ import annotations

from math import prod
from typing import Any

import openvino

from pqd_core import Operator

LEFT_OUT = frozenset({"Const", "Input", "Output"})
CONVERT = frozenset({"Convert", "FakeQuantize"})
MOVE = frozenset(
    {
        *("Reorder", "Reshape", "Transpose", "Concatenation", "Split", "StridedSlice", "Gather", "ShapeOf", "Pad"),
        *("Broadcast", "Tile", "ShuffleChannels"),
    }
)
INTEGERS = frozenset({"u8", "i8"})
GROUPED_RANK = 5
"""A grouped convolution's weight is (groups, outputs, inputs, height, width)."""


def execution(compiled: openvino.CompiledModel) -> list[Operator]:
    """The operators of one inference, in order, as the runtime's own graph tells them."""
    operators = compiled.get_runtime_model().get_ordered_ops()
    return [_operator(operator) for operator in operators if _told(operator, "layerType") not in LEFT_OUT]


def _told(operator: Any, key: str) -> str:
    return str(operator.get_rt_info()[key].astype(str))


def _operator(operator: Any) -> Operator:
    kind, integer = _told(operator, "layerType"), _told(operator, "runtimePrecision") in INTEGERS
    return Operator(
        name=operator.get_friendly_name().partition("/WithoutBiases")[0],
        kind=kind,
        role="convert" if kind in CONVERT or _only_quantizes(operator) else "move" if kind in MOVE else "compute",
        integer=integer,
        macs=_macs(kind, operator),
    )


def _only_quantizes(operator: Any) -> bool:
    """A quantization that was fused with nothing: one operator of the file, from float to integers."""
    alone = "," not in _told(operator, "originalLayersNames")
    writes_integers = _told(operator, "outputPrecisions") in INTEGERS
    return alone and writes_integers and _told(operator, "runtimePrecision") not in INTEGERS


def _macs(kind: str, operator: Any) -> int:
    """Each output value is a sum over the inputs of one position: a kernel's, or a row's; transposed, each input is."""
    scanned = operator.input(0) if kind == "Deconvolution" else operator.output(0)
    if kind in ("Convolution", "Deconvolution"):
        weight = _shape(operator.input(1))
        summed = prod(weight[2 if len(weight) == GROUPED_RANK else 1 :])
    elif kind in ("FullyConnected", "MatMul"):
        summed = _shape(operator.input(0))[-1]
    else:
        return 0
    return prod(_shape(scanned)) * summed


def _shape(port: Any) -> list[int]:
    return [dimension.get_length() for dimension in port.get_partial_shape()]
