"""Where the tensors lie in a deployable file.

A finder only points at bytes. It may miss a tensor, and a wrong one costs nothing but size: whatever it says, a file is
put together again from exactly the bytes it was taken apart into.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from attrs import frozen

if TYPE_CHECKING:
    from onnx import TensorProto

SMALLEST = 32
"""Bytes of a tensor that is worth an entry of its own."""
FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
ITEM_BYTES = {"i8": 1, "u8": 1, "i32": 4, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}


@frozen
class Region:
    """The bytes `start:stop` of a file hold a tensor, row by row, little-endian."""

    start: int
    stop: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def is_weight(self) -> bool:
        """Whether it is a matrix, or more, of 8-bit integers; scales, biases and zero points are vectors."""
        return self.dtype in ("i8", "u8") and len(self.shape) > 1

    @property
    def is_float_weight(self) -> bool:
        """Whether it is a matrix, or more, of floats; OpenVINO's scales have other dimensions too, but of one item."""
        return self.dtype in FLOATS and sum(side > 1 for side in self.shape) > 1


def find_regions(name: str, data: bytes, beside: Callable[[str], bytes | None]) -> list[Region]:
    """The tensors in `data`, in their order, none over another; none at all in a file that is not understood.

    `beside` gives the content of a file in the same folder: the graph that says what a `.bin` holds.
    """
    try:
        found = list(_finder(name)(data, name, beside))
    except Exception:  # a reader of a foreign format may raise anything at a damaged file; it is packed all the same
        return []
    return list(_apart(found, len(data)))


def _finder(name: str) -> Callable[[bytes, str, Callable[[str], bytes | None]], Iterable[Region]]:
    finders = {".onnx": _in_onnx, ".bin": _in_openvino, ".safetensors": _in_safetensors, ".pt2": _in_pt2}
    return finders.get(Path(name).suffix.lower(), lambda *_: ())


def _apart(found: Iterable[Region], size: int) -> Iterator[Region]:
    """Those that hold what they say and begin where the one before has ended, or later."""
    end = 0
    for region in sorted(found, key=lambda region: region.start):
        length = region.stop - region.start
        fits = length == math.prod(region.shape) * ITEM_BYTES.get(region.dtype, -1)
        if fits and length >= SMALLEST and end <= region.start and region.stop <= size:
            end = region.stop
            yield region


def _in_onnx(data: bytes, _: str, __: Callable[[str], bytes | None]) -> Iterator[Region]:
    import onnx

    kinds = {"INT8": "i8", "UINT8": "u8", "INT32": "i32", "INT64": "i64", "FLOAT16": "f16", "BFLOAT16": "bf16"}
    kinds |= {"FLOAT": "f32", "DOUBLE": "f64"}
    graph = onnx.load_model_from_string(data).graph
    constants = [value.t for node in graph.node for value in node.attribute if value.HasField("t")]
    for tensors in (constants, graph.initializer):  # which of them comes first on the wire is free
        end = 0
        for tensor in tensors:
            dtype, content = kinds.get(onnx.TensorProto.DataType.Name(tensor.data_type)), _in_one_piece(tensor)
            if dtype is None or len(content) < SMALLEST:
                continue
            start = data.find(content, end)
            if start >= 0:
                end = start + len(content)
                yield Region(start, end, dtype, tuple(tensor.dims))


def _in_one_piece(tensor: TensorProto) -> bytes:
    """A tensor's bytes, also where they stand as a list of floats, which is the same on the wire."""
    return tensor.raw_data or np.array(tensor.float_data, "<f4").tobytes()


def _in_openvino(_: bytes, name: str, beside: Callable[[str], bytes | None]) -> Iterator[Region]:
    graph = beside(f"{Path(name).stem}.xml")
    for constant in ElementTree.fromstring(graph or b"<net/>").iterfind("./layers/layer[@type='Const']/data"):
        start, size = int(constant.attrib["offset"]), int(constant.attrib["size"])
        shape = tuple(int(part) for part in constant.attrib["shape"].split(",") if part.strip())
        yield Region(start, start + size, constant.attrib["element_type"], shape)


def _in_safetensors(data: bytes, _: str, __: Callable[[str], bytes | None]) -> Iterator[Region]:
    length = int.from_bytes(data[:8], "little")
    for name, tensor in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, stop = (8 + length + offset for offset in tensor["data_offsets"])
            yield Region(start, stop, tensor["dtype"].lower(), tuple(tensor["shape"]))


def _in_pt2(data: bytes, _: str, __: Callable[[str], bytes | None]) -> Iterator[Region]:
    kinds = {1: "u8", 2: "i8", 4: "i32", 5: "i64", 6: "f16", 7: "f32", 8: "f64", 13: "bf16"}  # torch's numbers
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        for config in (name for name in members if name.endswith("_config.json")):
            folder = config.rpartition("/")[0]
            for tensor in json.loads(archive.read(config))["config"].values():
                start, length = _stored(data, members[f"{folder}/{tensor['path_name']}"])
                about = tensor["tensor_meta"]
                shape = tuple(size["as_int"] for size in about["sizes"])
                yield Region(start, start + length, kinds.get(about["dtype"], ""), shape)


def _stored(data: bytes, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Where a member's bytes begin, behind its own header, and how many there are."""
    name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
    return member.header_offset + 30 + name + extra, member.compress_size
