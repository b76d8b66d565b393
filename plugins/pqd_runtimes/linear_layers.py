"""Linear layers that write float, as a classifier does, and multiply integers all the same in ONNX Runtime."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

LARGEST_BIAS = 2**30


def use_integer_bias(graph: GraphProto) -> None:
    """The bias of a quantized linear layer that writes float, as a classifier does, is int32, in units of its products.

    ONNX Runtime does so itself where a layer's output is quantized. Where it is not, it keeps the layer in float
    because of its float bias, and dequantizes the weight anew on every call.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for layer, sources in _linear_layers_that_write_float(graph):
        bias = next((stored[name] for name in layer.input[2:] if name in stored), None)
        if bias is None or len(_readers(bias.name, graph)) > 1:
            continue
        steps = np.multiply(*(numpy_helper.to_array(stored[source.input[1]]) for source in sources))
        if quantized := _quantized_bias(numpy_helper.to_array(bias), steps, bias.name):
            graph.initializer.remove(bias)
            graph.initializer.extend(quantized)
            graph.node.insert(list(graph.node).index(layer), _dequantize(layer, [part.name for part in quantized]))


def part_relus(graph: GraphProto) -> bool:
    """A ReLU between a quantized linear layer and what computes in float is a maximum with 0.

    ONNX Runtime takes layer and ReLU for one, finds no grid behind them, and would keep the layer in float.

    Returns:
        Whether there is such a ReLU.
    """
    found = [
        reader
        for layer, _ in _linear_layers_that_write_float(graph)
        for reader in _readers(layer.output[0], graph)
        if reader.op_type == "Relu"
    ]
    for relu in found:
        zero = numpy_helper.from_array(np.zeros((), np.float32), f"{relu.name}.zero")
        graph.initializer.append(zero)
        relu.op_type = "Max"
        relu.input.append(zero.name)
    return bool(found)


def _linear_layers_that_write_float(graph: GraphProto) -> list[tuple[NodeProto, list[NodeProto]]]:
    """Each linear layer that multiplies quantized values and whose results go on no grid; and its dequantizations."""
    makers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type == "Gemm" and not _is_quantized(node.output[0], graph)]
    both = [(layer, [makers[name] for name in layer.input[:2] if name in makers]) for layer in layers]
    return [found for found in both if [source.op_type for source in found[1]] == ["DequantizeLinear"] * 2]


def _is_quantized(name: str, graph: GraphProto) -> bool:
    """Whether ONNX Runtime sees that the value `name` goes on a grid, as it is or behind a ReLU."""
    readers = _readers(name, graph)
    if len(readers) != 1 or readers[0].op_type not in ("QuantizeLinear", "Relu", "Clip"):
        return False
    return readers[0].op_type == "QuantizeLinear" or _is_quantized(readers[0].output[0], graph)


def _readers(name: str, graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if name in node.input]


def _quantized_bias(bias: np.ndarray, step: np.ndarray, name: str) -> list[TensorProto]:
    """The bias in whole steps, the steps, and zero points; nothing if int32 has no room left for a sum of products."""
    step = np.broadcast_to(step, bias.shape).astype(np.float32)
    whole = np.rint(bias.astype(np.float64) / step)
    if np.abs(whole).max() >= LARGEST_BIAS:
        return []
    parts = {"quantized": whole.astype(np.int32), "scale": step, "zero_point": np.zeros(bias.shape, np.int32)}
    return [numpy_helper.from_array(array, f"{name}.{part}") for part, array in parts.items()]


def _dequantize(layer: NodeProto, inputs: list[str]) -> NodeProto:
    layer.input[2] = f"{layer.input[2]}.dequantized"
    return helper.make_node("DequantizeLinear", inputs, [layer.input[2]], name=layer.input[2], axis=0)
