"""Rewrites of an ONNX graph into operators that a runtime has integer kernels for; none changes what it computes."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from pqd_runtimes.onnx_graph import layer_weights

ALMOST_ZERO = 1e-30
"""OpenVINO puts a padding with zeros back into the pool that follows."""
IMAGE_RANK, IMAGE_AXES = 4, {2, 3}


def use_global_pools(graph: GraphProto) -> None:
    """A mean over the two image axes, which stay, is called a global average pool.

    ONNX Runtime has an integer kernel for the one and none for the other.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    for node in graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != IMAGE_RANK or len(node.input) < 2:
            continue
        axes = stored.get(node.input[1])
        if axes is None or attribute(node, "keepdims", 1) != 1:
            continue
        if {int(axis) % IMAGE_RANK for axis in numpy_helper.to_array(axes)} == IMAGE_AXES:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of `node`."""
    return next((int(found.i) for found in node.attribute if found.name == name), default)


def scale_channels(graph: GraphProto) -> None:
    """A depthwise convolution of single pixels, on a quantized weight, is a factor and an offset for each channel.

    That is how `int8-qat` writes a batch norm that no layer can take up, because ONNX Runtime has an integer kernel
    for it. OpenVINO computes factor and offset within the integer operators before and behind; a depthwise convolution
    that was saved and read again it runs in float.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    replaced: dict[str, list[NodeProto]] = {}
    for node, weight, dequantize in list(layer_weights(graph)):
        if dequantize is None or not _scales_channels(node, weight):
            continue
        steps, *bias = (numpy_helper.to_array(stored[name]) for name in (dequantize.input[1], *node.input[2:]))
        constants = [numpy_helper.to_array(weight).astype(np.float32).ravel() * steps, *bias]
        names = [f"{node.name}.{part}" for part in ("factor", "offset")][: len(constants)]
        for name, array in zip(names, constants, strict=True):
            graph.initializer.append(numpy_helper.from_array(array.reshape(1, -1, 1, 1), name))
        replaced[node.name] = _scale(node, names)
    rewritten = [new for node in graph.node for new in replaced.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(rewritten)


def pad_before_pools(graph: GraphProto) -> None:
    """A padded average over quantized values is one over values that an operator of its own has padded with zeros.

    OpenVINO pads the integers with 0 instead, which stands for another value wherever the grid has a zero point.
    """
    makers = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "AveragePool"]:
        source, pads = makers.get(node.input[0]), list(next((a.ints for a in node.attribute if a.name == "pads"), ()))
        if not any(pads) or not attribute(node, "count_include_pad", 0) or not _has_zero_point(source, stored):
            continue
        half = len(pads) // 2
        sizes, value, padded = (f"{node.name}.{part}" for part in ("pads", "almost_zero", "padded"))
        array = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
        graph.initializer.append(numpy_helper.from_array(array, sizes))
        graph.initializer.append(numpy_helper.from_array(np.array(ALMOST_ZERO, np.float32), value))
        pad = helper.make_node("Pad", [node.input[0], sizes, value], [padded], name=padded)
        graph.node.insert(list(graph.node).index(node), pad)
        node.input[0] = padded
        node.attribute.remove(next(a for a in node.attribute if a.name == "pads"))


def _has_zero_point(source: NodeProto | None, stored: dict[str, TensorProto]) -> bool:
    if source is None or source.op_type != "DequantizeLinear" or len(source.input) < 3:
        return False
    return bool(numpy_helper.to_array(stored[source.input[2]]).any())


def _scales_channels(node: NodeProto, weight: TensorProto) -> bool:
    """One weight for each channel, which reads the pixel that it writes."""
    channels, *rest = weight.dims
    steps = {found.name: set(found.ints) for found in node.attribute}
    stays = steps.get("strides", {1}) == {1} and steps.get("pads", {0}) == {0}
    return node.op_type == "Conv" and rest == [1, 1, 1] and attribute(node, "group", 1) == channels and stays


def _scale(node: NodeProto, constants: list[str]) -> list[NodeProto]:
    """`node` as a multiplication and, if it has an offset, an addition."""
    if len(constants) == 1:
        return [helper.make_node("Mul", [node.input[0], constants[0]], node.output, name=node.name)]
    between = f"{node.name}.scaled"
    return [
        helper.make_node("Mul", [node.input[0], constants[0]], [between], name=node.name),
        helper.make_node("Add", [between, constants[1]], node.output, name=f"{node.name}.shifted"),
    ]
