"""The INT8 form of a network that comes as float weights, for its size alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

SPARSITY = 0.7
SMALLEST = 512
"""Smaller weights stay as they are."""
LAYERS = {"Conv", "MatMul", "Gemm"}


def int8_file(file: Path) -> bytes:
    """An ONNX file with INT8 weights: `file` itself if it has some, else its weights, pruned and rounded."""
    if file.suffix == ".pth":
        stored = torch.load(file, map_location="cpu", weights_only=True)
        return _as_onnx({name: tensor.numpy() for name, tensor in stored.items() if tensor.ndim > 1})
    data = file.read_bytes()
    graph = onnx.load_model_from_string(data).graph
    if any(tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1 for tensor in graph.initializer):
        return data
    return _as_onnx(_float_weights(graph))


def _float_weights(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Weights of convolutions and linear layers, output channels first."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    found = {}
    for node in graph.node:
        if node.op_type in LAYERS and node.input[1] in tensors:
            weight = numpy_helper.to_array(tensors[node.input[1]])
            if weight.size >= SMALLEST:
                found[node.input[1]] = np.ascontiguousarray(weight.T) if node.op_type == "MatMul" else weight
    return found


def _as_onnx(weights: dict[str, np.ndarray]) -> bytes:
    """An ONNX file that dequantizes each weight, pruned over all of them and rounded in each output channel."""
    threshold = np.quantile(np.concatenate([abs(weight).reshape(-1) for weight in weights.values()]), SPARSITY)
    tensors, nodes = [], []
    for name, weight in weights.items():
        pruned = np.where(abs(weight) <= threshold, 0, weight)
        scale = abs(pruned).reshape(len(pruned), -1).max(axis=1) / 127
        scale[scale == 0] = 1
        rounded = np.rint(pruned / scale.reshape(-1, *[1] * (weight.ndim - 1))).clip(-127, 127).astype(np.int8)
        tensors += [
            numpy_helper.from_array(rounded, name),
            numpy_helper.from_array(scale.astype("f4"), f"{name}.scale"),
        ]
        nodes.append(helper.make_node("DequantizeLinear", [name, f"{name}.scale"], [f"{name}.float"], axis=0))
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "weights", [], [output], tensors)
    return helper.make_model(graph).SerializeToString(deterministic=True)
