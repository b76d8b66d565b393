"""Which weights the target CPU multiplies exactly.

x86 CPUs with AVX2 or AVX-512 but without VNNI multiply uint8 by int8 with an instruction (VPMADDUBSW) that adds two
products in 16 bits and saturates, silently. Weights of magnitude up to 64 cannot get there: 2 * 255 * 64 = 32,640 is
below 2^15. That costs one bit of the weights, so it is done only where it is needed.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from attrs import frozen


@frozen
class WeightRange:
    """The integers that a weight may take; symmetric, so that a batch norm with a negative factor can be folded."""

    low: int
    high: int


FULL = WeightRange(-127, 127)
REDUCED = WeightRange(-64, 64)


def choose_range(setting: Literal["auto", "full", "reduced"]) -> WeightRange:
    """The range that was asked for; `auto` is the widest that this machine's CPU multiplies exactly."""
    if setting == "auto":
        return FULL if is_exact(FULL) else REDUCED
    return FULL if setting == "full" else REDUCED


@cache
def is_exact(weights: WeightRange) -> bool:
    """Whether a convolution of the largest activations and weights gives the right result on this machine.

    Asked of ONNX Runtime, but the answer is a property of the CPU's instructions, which other runtimes use too.
    """
    channels, kernel = 64, 3
    images = np.full((1, channels, 16, 16), 255, np.uint8)
    weight = np.full((channels, channels, kernel, kernel), weights.high, np.int8)
    exact = channels * kernel**2 * 255 * weights.high
    inner = _convolve(images, weight, step=exact / 200)[..., 1:-1, 1:-1]
    return bool((inner == 200).all())


def _convolve(images: np.ndarray, weight: np.ndarray, step: float) -> np.ndarray:
    """The sums of products of an integer convolution with padding 1, in units of `step`, as uint8."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "one": np.float32(1),
        "no_offset": np.uint8(0),
        "weight": weight,
        "weight_step": np.ones(len(weight), np.float32),
        "weight_offset": np.zeros(len(weight), np.int8),
        "step": np.float32(step),
    }
    inputs = ["images", "one", "no_offset", "weight", "weight_step", "weight_offset", "step", "no_offset"]
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", inputs, ["sums"], pads=[1, 1, 1, 1])],
        "probe",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, images.shape)],
        [helper.make_tensor_value_info("sums", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: np.ndarray = session.run(None, {"images": images})[0]
    return sums
