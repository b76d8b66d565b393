"""Keeps OpenVINO from skipping a rounding that the network was trained with.

Where a convolution's rounded result is added to a residual and the sum is rounded again, OpenVINO's CPU plugin computes
all of it in one kernel and leaves the inner rounding out. It does so only if the rounding is the kernel's first
operation behind the convolution. A parametric ReLU of slope 1, which changes nothing, comes first here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino
from openvino import opset13 as ops

CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})


def keep_residual_rounding(model: openvino.Model) -> None:
    """Each convolution's rounding before a residual addition is done."""
    for rounding in list(_roundings(model)):
        source = rounding.input_value(0)
        slope = ops.constant(np.ones(1, np.float32))
        unchanged = ops.prelu(source, slope)
        unchanged.set_friendly_name(f"{rounding.get_friendly_name()}/kept")
        rounding.input(0).replace_source_output(unchanged.output(0))
    model.validate_nodes_and_infer_types()


def _roundings(model: openvino.Model) -> Iterator[openvino.Node]:
    """Quantizers that read a convolution and are read by an addition alone."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and _is_convolved(node.input_value(0).get_node()):
            readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
            if [reader.get_type_name() for reader in readers] == ["Add"]:
                yield node


def _is_convolved(node: openvino.Node) -> bool:
    """A convolution, or its bias added to it."""
    if node.get_type_name() == "Add":
        node = node.input_value(0).get_node()
    return node.get_type_name() in CONVOLUTIONS
