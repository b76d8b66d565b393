"""An ONNX model as the bytes of a file, in the order of fields that compresses best."""

from __future__ import annotations

from onnx import GraphProto, ModelProto

GRAPH = bytes([ModelProto.DESCRIPTOR.fields_by_name["graph"].number << 3 | 2])
"""What announces a model's graph (https://protobuf.dev/programming-guides/encoding)."""
SEVEN_BITS = 0x7F
MATRIX = 2
"""A weight has so many dimensions, or more."""


def serialized(proto: ModelProto) -> bytes:
    """`proto` with its weights ahead of the nodes, and everything else behind.

    Fields may come in any order, and a compressor learns from what comes first: behind the text of a network's nodes,
    zstd writes sparse INT8 weights with more bytes. The same model gives the same bytes.
    """
    rest, first = ModelProto(), GraphProto()
    rest.CopyFrom(proto)
    del rest.graph.initializer[:]
    for tensor in proto.graph.initializer:
        (first if len(tensor.dims) >= MATRIX else rest.graph).initializer.append(tensor)
    graph = _bytes(first) + _bytes(rest.graph)
    rest.ClearField("graph")
    return _bytes(rest) + GRAPH + _varint(len(graph)) + graph


def _bytes(part: ModelProto | GraphProto) -> bytes:
    data: bytes = part.SerializeToString(deterministic=True)
    return data


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth bit set."""
    if number <= SEVEN_BITS:
        return bytes([number])
    return bytes([number & SEVEN_BITS | SEVEN_BITS + 1]) + _varint(number >> 7)
