"""Small networks as the files that runtimes read, and packed files whose parts a test may choose."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from typing import Any

import numpy as np
import zstandard
from onnx import TensorProto, helper, numpy_helper

MEGABYTES = 2**20


def sparse_weight(*shape: int, seed: int = 0) -> np.ndarray:
    """INT8 weights of which 70 % are zero, some channels wider than others."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(5, 40, (shape[0], *[1] * (len(shape) - 1)))
    values = rng.normal(size=shape) * spread
    values[abs(values) < np.quantile(abs(values), 0.7)] = 0
    return values.round().clip(-128, 127).astype(np.int8)


def onnx_file(*weights: np.ndarray, scales: int = 40) -> bytes:
    """An ONNX file with these int8 weights, each with a scale for every channel."""
    rng, tensors, nodes = np.random.default_rng(1), [], []
    for index, weight in enumerate(weights):
        name = f"layer{index}"
        scale = rng.uniform(0.001, 0.1, scales).astype(np.float32)
        tensors += [numpy_helper.from_array(weight, f"{name}.weight"), numpy_helper.from_array(scale, f"{name}.scale")]
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.weight", f"{name}.scale"], [name], axis=0))
    outputs = [helper.make_tensor_value_info(f"layer{len(weights) - 1}", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "network", [], outputs, tensors)
    return helper.make_model(graph).SerializeToString(deterministic=True)


def openvino_files(*weights: np.ndarray) -> dict[str, bytes]:
    """`model.xml` and `model.bin` with these int8 weights."""
    layers, blob = [], b""
    for index, weight in enumerate(weights):
        shape = ", ".join(map(str, weight.shape))
        data = f'<data element_type="i8" shape="{shape}" offset="{len(blob)}" size="{weight.nbytes}" />'
        layers.append(f'<layer id="{index}" name="layer{index}" type="Const" version="opset1">{data}</layer>')
        blob += weight.tobytes()
    xml = f'<?xml version="1.0"?>\n<net name="network" version="11"><layers>{"".join(layers)}</layers></net>'
    return {"model.xml": xml.encode(), "model.bin": blob}


def pt2_file(*weights: np.ndarray) -> bytes:
    """A `.pt2` archive with these int8 weights, as torch.export lays it out."""
    config, file = {}, io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for index, weight in enumerate(weights):
            archive.writestr(f"archive/data/weights/weight_{index}", weight.tobytes())
            sizes = [{"as_int": size} for size in weight.shape]
            config[f"w{index}"] = {"path_name": f"weight_{index}", "tensor_meta": {"dtype": 2, "sizes": sizes}}
        archive.writestr("archive/data/weights/model_weights_config.json", json.dumps({"config": config}))
    return file.getvalue()


def forged(header: Any, streams: bytes = b"", **preamble: int) -> bytes:
    """A packed file with this header, whatever it says, and a digest that is right."""
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    stored = zstandard.ZstdCompressor().compress(told)
    parts = {"version": 1, "zero": 0, "stored": len(stored), "told": len(told)} | preamble
    whole = b"\x89PQDZ\r\n\x1a" + struct.pack("<HHII", *parts.values()) + stored + streams
    return whole + hashlib.sha256(whole).digest()


def about(name: str = "model.onnx", size: int = 0, tensors: Any = (), **more: Any) -> dict[str, Any]:
    """A header's words for one file."""
    return {"name": name, "size": size, "sha256": "0" * 64, "tensors": tensors} | more
