"""Layers that stay float between integers, in ONNX Runtime's own copy of the file."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from pqd_runtimes.kernels import attribute
from pqd_runtimes.onnx_graph import layer_weights

MOVES = frozenset({"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"})
"""ONNX Runtime has these move integers, so that a layer behind them reads what has just been dequantized."""


def keep_float(graph: GraphProto) -> bool:
    """What a layer with a float weight reads is dequantized with a step for each channel, all alike.

    A layer that reads quantized values, and whose result is quantized, ONNX Runtime makes INT8 as it opens the file,
    with one step for the whole weight. That cannot be turned off, since it is also what quantizes the biases of INT8
    layers. But it leaves a layer alone that reads values with more than one step, and so many alike cost nothing.
    Where there is only one channel, and so one step, an operator that does nothing stands before the layer instead.

    Returns:
        Whether there is such a layer.
    """
    floats = [(layer, weight) for layer, weight, _ in layer_weights(graph) if weight.data_type == TensorProto.FLOAT]
    between_integers = [_read_by_channel(layer, weight, graph) for layer, weight in floats]
    return any(between_integers)


def _read_by_channel(layer: NodeProto, weight: TensorProto, graph: GraphProto) -> bool:
    """The layer has a dequantization of its own, and copies of the moves ahead of it, if it reads a quantized value."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = _dequantization(layer.input[0], graph)
    if not found or layer.input[1] != weight.name or prod(stored[found[0].input[1]].dims) != 1:
        return False
    dequantize, *moves = found
    axis, channels = _channels(layer, weight)
    grid = [_repeated(stored[name], channels, f"{layer.name}.{name}") for name in dequantize.input[1:]]
    value, nodes = dequantize.input[0], list[NodeProto]()
    for number, move in enumerate(moves):
        nodes.append(_copy(move, value, f"{layer.name}.moved_{number}"))
        value = nodes[-1].output[0]
    names, read = [tensor.name for tensor in grid], f"{layer.name}.dequantized"
    nodes.append(helper.make_node("DequantizeLinear", [value, *names], [read], name=read, axis=axis))
    if channels == 1:  # joined with nothing: ONNX Runtime keeps that, and it copies the one channel
        nodes.append(helper.make_node("Concat", [read], [f"{read}.alone"], name=f"{read}.alone", axis=axis))
    layer.input[0] = nodes[-1].output[0]
    graph.initializer.extend(grid)
    place = list(graph.node).index(layer)
    for node in reversed(nodes):
        graph.node.insert(place, node)
    _drop_unread([*reversed(moves), dequantize], graph)
    return True


def _dequantization(name: str, graph: GraphProto) -> list[NodeProto]:
    """Where the value `name` was dequantized, and what has moved it since; nothing if it is no quantized value."""
    makers = {output: node for node in graph.node for output in node.output}
    path: list[NodeProto] = []
    while (maker := makers.get(name)) is not None:
        path.insert(0, maker)
        if maker.op_type not in MOVES:
            break
        name = maker.input[0]
    return path if path and path[0].op_type == "DequantizeLinear" else []


def _channels(layer: NodeProto, weight: TensorProto) -> tuple[int, int]:
    """The axis of a layer's input that its weight sums over, and its size."""
    if layer.op_type == "Conv":
        return 1, weight.dims[1] * attribute(layer, "group", 1)
    if layer.op_type == "MatMul":
        return -1, weight.dims[-2]
    return 1, weight.dims[attribute(layer, "transB", 0)]  # also of a transposed convolution


def _repeated(tensor: TensorProto, times: int, name: str) -> TensorProto:
    return numpy_helper.from_array(np.repeat(numpy_helper.to_array(tensor).ravel(), times), name)


def _copy(move: NodeProto, value: str, name: str) -> NodeProto:
    """The same move of another value."""
    copy = NodeProto()
    copy.CopyFrom(move)
    copy.name = copy.output[0] = name
    copy.input[0] = value
    return copy


def _drop_unread(nodes: list[NodeProto], graph: GraphProto) -> None:
    """ONNX Runtime would run them all the same."""
    for node in nodes:
        if not set(node.output) & {*_reads(graph), *(value.name for value in graph.output)}:
            graph.node.remove(node)


def _reads(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for inner in (inner for found in node.attribute for inner in (found.g, *found.graphs)):
            yield from _reads(inner)
