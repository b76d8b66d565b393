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
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Tensor, nn

from pqd_runtimes.kernels import use_global_pools
from pqd_runtimes.linear_layers import use_integer_bias
from pqd_runtimes.onnx_bytes import MATRIX, serialized
from pqd_runtimes.onnx_graph import layer_weights
from pqd_runtimes.translation import translated

MADE_UP = re.compile(r"val_\d+")
"""What the rewriter calls a weight that it has transposed."""
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
        aside.write_bytes(serialized(proto))
        aside.replace(file)
    return file


def finish(proto: ModelProto) -> None:
    """Layers have their names, operators have integer kernels, and nothing tells of the machine that exported."""
    _name_layers(proto.graph)
    use_global_pools(proto.graph)
    use_integer_bias(proto.graph)
    _strip(proto)
    _drop_signs_of_zeros(proto.graph)
    # Weights lie together, largest first: a compressor learns their statistics once.
    proto.graph.initializer.sort(key=lambda tensor: (len(tensor.dims) < MATRIX, -tensor.ByteSize(), tensor.name))
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


def _drop_signs_of_zeros(graph: GraphProto) -> None:
    """A batch norm's negative factor makes -0 of a pruned weight: the same number, a bit more to compress."""
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= MATRIX:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0), tensor.name))


def _strip(proto: ModelProto) -> None:
    """Stack traces, node metadata and shapes of intermediate tensors are gone; 137 kB of them in a ResNet-20."""
    graph = proto.graph
    del graph.value_info[:]
    described: Iterable[Any] = chain((proto, graph), graph.node, graph.initializer, graph.input, graph.output)
    for part in described:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
