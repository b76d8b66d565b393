"""Keeps OpenVINO from skipping a rounding that the network was trained with.

Where a convolution's rounded result is added to a residual and the sum is rounded again, OpenVINO's CPU plugin computes
all of it in one kernel and leaves the inner rounding out. It does so only if the rounding is the kernel's first
operation behind the convolution. A ReLU that changes nothing comes first here: the convolution's bias lifts all that
the rounding does not clip above zero, and the rounding's ends are lifted as far. Of the operations that can stand
there it is the cheapest.

Where both operands and the sum have one step nothing has to be kept: that addition is one of integers, and rounding
before it is rounding behind it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino
from openvino import opset13 as ops

CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})
MOVES = frozenset({"MaxPool", "Relu", "Reshape", "Transpose", "Squeeze", "Unsqueeze"})
SAME = 1e-6
"""By this share of itself a step may differ from another that is the same: ends of ranges are float32."""
BELOW = 1 / 16
"""How far below zero the lowest end lies, in steps of the grid: OpenVINO drops a ReLU in front of a range from zero."""


def keep_residual_rounding(model: openvino.Model) -> None:
    """Each convolution's rounding before a residual addition is done."""
    for rounding in list(_roundings(model)):
        low, high = (_value(rounding, index) for index in (1, 2))
        lift = -low - BELOW * (high - low) / (rounding.get_attributes()["levels"] - 1)
        lifted = ops.relu(_plus(rounding.input_value(0), lift))
        lifted.set_friendly_name(f"{rounding.get_friendly_name()}/kept")
        rounding.input(0).replace_source_output(lifted.output(0))
        for index, end in ((1, low), (2, high)):
            rounding.input(index).replace_source_output(ops.constant((end + lift).astype(np.float32)).output(0))
    model.validate_nodes_and_infer_types()


def _value(node: openvino.Node, index: int) -> np.ndarray:
    return np.array(node.input_value(index).get_node().data, np.float64)


def _plus(source: openvino.Output, lift: np.ndarray) -> openvino.Output:
    """`source` and as much more, by way of its bias if nothing else reads that sum."""
    node = source.get_node()
    has_bias = node.get_type_name() == "Add" and node.input_value(1).get_node().get_type_name() == "Constant"
    if not has_bias or len(source.get_target_inputs()) > 1:
        _, channels, *space = source.get_partial_shape()
        # A number for each channel: that becomes part of the convolution's own scales, one for all does not.
        shape = 1, channels.get_length(), *[1] * len(space)
        return ops.add(source, ops.constant(np.full(shape, lift, np.float32))).output(0)
    bias = _value(node, 1) + lift
    node.input(1).replace_source_output(ops.constant(bias.astype(np.float32)).output(0))
    return source


def _roundings(model: openvino.Model) -> Iterator[openvino.Node]:
    """Quantizers that read a convolution and are read by an addition alone."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and _is_convolved(node.input_value(0).get_node()):
            readers = _readers(node)
            if [reader.get_type_name() for reader in readers] == ["Add"] and not _adds_integers(readers[0]):
                yield node


def _readers(node: openvino.Node) -> list[openvino.Node]:
    return [reader.get_node() for reader in node.output(0).get_target_inputs()]


def _adds_integers(addition: openvino.Node) -> bool:
    """Both operands and the sum have one step: then rounding the sum alone is rounding the operands, too."""
    operands = [addition.input_value(index).get_node() for index in (0, 1)]
    found = [_step(node) for node in (*operands, *_readers(addition))]
    steps = [step for step in found if step is not None]
    return len(steps) == len(found) and max(steps) - min(steps) <= SAME * max(steps)


def _step(node: openvino.Node) -> float | None:
    """The step of the grid that a value lies on, where one quantizer made it and at most moves came behind it."""
    while node.get_type_name() in MOVES:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "FakeQuantize":
        return None
    span = _value(node, 4) - _value(node, 3)
    return float(span.item()) / (node.get_attributes()["levels"] - 1) if span.size == 1 else None


def _is_convolved(node: openvino.Node) -> bool:
    """A convolution, or its bias added to it."""
    if node.get_type_name() == "Add":
        node = node.input_value(0).get_node()
    return node.get_type_name() in CONVOLUTIONS
