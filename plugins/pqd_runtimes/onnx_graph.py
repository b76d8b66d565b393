"""Reading an ONNX file: no more than is safe, and the weights that it stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from pqd_runtimes import MAX_MEGABYTES
from pqd_runtimes.refusals import EXPORT_AGAIN, check_one_input, check_size, refuse, told_as
from pqd_runtimes.zero_points import without_zero_point

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
MOVES = frozenset({"Transpose", "Reshape", "Identity"})


def read_onnx(file: Path, max_megabytes: int = MAX_MEGABYTES) -> ModelProto:
    """The model in `file`, parsed and checked, all of it inside the file.

    Raises:
        DeployError: the file is missing, too large, no valid ONNX, or points to data in other files.
    """
    check_size(file, max_megabytes)
    with told_as(file, "this is no valid ONNX file", EXPORT_AGAIN):
        model = onnx.load_model(file, load_external_data=False)
        if not model.graph.node:
            raise refuse(file, "there is no graph in it")
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in _tensors(model)):
            raise refuse(file, "it points to data outside of itself", "use a file that holds its own weights")
        onnx.checker.check_model(model)
    return model


def input_shape(file: Path, max_megabytes: int = MAX_MEGABYTES) -> tuple[int | None, ...]:
    """The images that the file takes (N, C, H, W), None where any size will do.

    Raises:
        DeployError: the file is refused, or takes anything but one float32 tensor.
    """
    graph = read_onnx(file, max_megabytes).graph
    images = check_one_input(file, images_of(graph))
    if images.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise refuse(file, "it does not take float32", "export it with a float32 input")
    return tuple(dim.dim_value or None for dim in images.type.tensor_type.shape.dim)


def images_of(graph: GraphProto) -> list[ValueInfoProto]:
    """What a caller has to give; older files list their weights among the inputs."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def layer_weights(graph: GraphProto) -> Iterator[tuple[NodeProto, TensorProto, NodeProto | None]]:
    """For each convolution and linear layer with a stored weight: its node, the tensor, and the dequantization."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type not in LAYERS or len(node.input) < 2:
            continue
        name, dequantize = node.input[1], None
        while (maker := makers.get(name)) is not None and maker.op_type in {*MOVES, "DequantizeLinear"}:
            dequantize = maker if maker.op_type == "DequantizeLinear" else dequantize
            name = maker.input[0]
        if name in stored:
            yield node, stored[name], dequantize


def layer_of(weight: TensorProto) -> str:
    """What a layer is known by: the name of its weight."""
    return weight.name.removesuffix(".weight")


def weights(file: Path) -> dict[str, np.ndarray]:
    """The weight of each convolution and linear layer as the file stores it: int8 as integers, zero points removed."""
    graph = read_onnx(file).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for _, tensor, dequantize in layer_weights(graph):
        array = numpy_helper.to_array(tensor)
        if dequantize is not None and len(dequantize.input) > 2:
            axis = next((a.i for a in dequantize.attribute if a.name == "axis"), 1)
            array = without_zero_point(array, numpy_helper.to_array(stored[dequantize.input[2]]), axis)
        found[layer_of(tensor)] = array
    return found


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterator[NodeProto]) -> Iterator[TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of_graph(graph)
