"""How each peer makes its INT8 file: as its own pages tell, with its own defaults, from the same float network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim

ONNX_STATIC = {
    # label: activations, weights, format of ONNX Runtime's quantize_static
    "ort-static-u8s8": ("QUInt8", "QInt8", "QDQ"),
    "ort-static-s8s8": ("QInt8", "QInt8", "QDQ"),
    "ort-static-u8u8": ("QUInt8", "QUInt8", "QDQ"),
    "ort-static-u8s8-qoperator": ("QUInt8", "QInt8", "QOperator"),
}
CALIBRATION_BATCH = 8


class Reader:
    """Calibration images in the form that ONNX Runtime asks for."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(batches(images))

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        """The next batch by input name, or None."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def batches(images: np.ndarray) -> list[np.ndarray]:
    """`images` in batches that every peer calibrates with."""
    return np.split(images, len(images) // CALIBRATION_BATCH)


def quantize_static(float_file: Path, file: Path, images: np.ndarray, label: str) -> None:
    """ONNX Runtime's post-training quantization, one step per channel, after its own preprocessing."""
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    activations, weights, form = ONNX_STATIC[label]
    prepared = file.with_name("prepared.onnx")
    shape_inference.quant_pre_process(float_file, prepared)
    quantization.quantize_static(
        prepared,
        file,
        Reader(images),
        quant_format=quantization.QuantFormat[form],
        per_channel=True,
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType[weights],
    )
    prepared.unlink()


def quantize_nncf(float_file: Path, file: Path, images: np.ndarray) -> None:
    """NNCF's post-training quantization of OpenVINO's form of the network."""
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    import nncf
    import openvino

    model = openvino.Core().read_model(float_file)
    quantized = nncf.quantize(model, nncf.Dataset(batches(images)), subset_size=len(images) // CALIBRATION_BATCH)
    openvino.save_model(quantized, file, compress_to_fp16=False)


def quantize_pt2e(model: nn.Module, images: np.ndarray) -> nn.Module:
    """PT2E with the quantizer made for Inductor on x86; to be compiled with frozen weights."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    example = torch.from_numpy(images[:2])
    graph: Any = torch.export.export(model, (example,), dynamic_shapes=({0: Dim.DYNAMIC},)).module()
    with torch.no_grad():
        prepared = prepare_pt2e(graph, quantizer)
        for batch in batches(images):
            prepared(torch.from_numpy(batch))
        converted: nn.Module = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return converted
