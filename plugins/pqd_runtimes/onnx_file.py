"""The ONNX file that both ONNX Runtime and OpenVINO are fed from."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pqd_runtimes.onnx_graph import layer_weights
from pqd_runtimes.translation import translated

MADE_UP = re.compile(r"val_\d+")
"""What the rewriter calls a weight that it has transposed."""
LARGEST_BIAS = 2**30
SCOPES = "pkg.torch.onnx.name_scopes"


def onnx_file(model: nn.Module, example: Tensor, shared: Path) -> Path:
    """`shared/model.onnx`, made unless it is there: the same model gives the same bytes.

    Quantized tensors are QuantizeLinear/DequantizeLinear pairs around float operators; int8 weights are stored as
    int8. Batch norms that follow a convolution are folded into it.

    Raises:
        DeployError: the model cannot be traced, or has an operator that ONNX has no counterpart for.
    """
    file = shared / "model.onnx"
    if not file.exists():
        proto = translated(model, example)
        finish(proto)
        aside = shared / f"model.onnx.{os.getpid()}"
        aside.write_bytes(proto.SerializeToString(deterministic=True))
        aside.replace(file)
    return file


def finish(proto: ModelProto) -> None:
    """Layers have their names, the classifier an integer bias, and nothing tells of the machine that exported."""
    _name_layers(proto.graph)
    _integer_bias(proto.graph)
    _strip(proto)
    for value in chain(proto.graph.input, proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _name_layers(graph: GraphProto) -> None:
    """Each layer's node is called `<layer>`, and its weight `<layer>.weight` where rewriting had made up a name."""
    renamed: dict[str, str] = {}
    seen: Counter[str] = Counter()
    taken = {tensor.name for tensor in graph.initializer}
    for node, tensor, _ in layer_weights(graph):
        if MADE_UP.fullmatch(tensor.name) and (name := f"{_scope(node)}.weight") not in taken:
            renamed[tensor.name] = tensor.name = name
            taken.add(name)
        layer = tensor.name.removesuffix(".weight")
        seen[layer] += 1
        node.name = layer if seen[layer] == 1 else f"{layer}/{seen[layer]}"  # a node's name is its own
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)


def _scope(node: NodeProto) -> str:
    """The layer that a node comes from; the node's own name if it comes from none."""
    scopes = next((prop.value for prop in node.metadata_props if prop.key == SCOPES), "[]")
    names: list[str] = ast.literal_eval(scopes)
    return names[-2] if len(names) > 1 else node.name


def _integer_bias(graph: GraphProto) -> None:
    """The bias of a quantized classifier is int32, in units of its products.

    ONNX Runtime does so itself where a layer's output is quantized. Where it is not, it keeps the layer in float
    because of its float bias, and dequantizes the weight anew on every call.
    """
    makers = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    layer = makers.get(graph.output[0].name)
    if layer is None or layer.op_type != "Gemm" or len(layer.input) < 3 or layer.input[2] not in stored:
        return
    sources = [makers[name] for name in layer.input[:2] if name in makers]
    if [source.op_type for source in sources] != ["DequantizeLinear"] * 2:
        return
    bias = stored[layer.input[2]]
    steps = np.multiply(*(numpy_helper.to_array(stored[source.input[1]]) for source in sources))
    if quantized := _quantized_bias(numpy_helper.to_array(bias), steps, bias.name):
        graph.initializer.remove(bias)
        graph.initializer.extend(quantized)
        graph.node.insert(list(graph.node).index(layer), _dequantize(layer, [part.name for part in quantized]))


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


def _strip(proto: ModelProto) -> None:
    """Stack traces, node metadata and shapes of intermediate tensors are gone; 137 kB of them in a ResNet-20."""
    graph = proto.graph
    del graph.value_info[:]
    described: Iterable[Any] = chain((proto, graph), graph.node, graph.initializer, graph.input, graph.output)
    for part in described:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
