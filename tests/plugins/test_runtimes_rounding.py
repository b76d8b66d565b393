"""OpenVINO rounds and pads as the network was trained to bear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import helper, numpy_helper
from openvino._offline_transformations import apply_moc_transformations
from runtime_kit import Shelf, images, reference, the_shelf

from pqd_runtimes.kernels import pad_before_pools


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


def kept(file: Path) -> list[str]:
    model = openvino.Core().read_model(file)
    return [name for node in model.get_ordered_ops() if (name := node.get_friendly_name()).endswith("/kept")]


def test_only_a_convolution_that_is_added_to_a_residual_is_kept_from_skipping_it(shelf: Shelf) -> None:
    assert len(kept(shelf.file("int8", "openvino"))) == 1
    assert kept(shelf.file("float", "openvino")) == []


def test_the_file_rounds_where_its_model_does(shelf: Shelf) -> None:
    batch = images(64)
    session = shelf.session("int8", "openvino")
    difference = abs(session(batch.numpy()) - reference(shelf.model("int8"), batch))
    session.close()
    # One skipped rounding in the block changes almost every output; sums between two grid points change a few.
    assert (difference > 1e-4).mean() < 0.2


def pooled(pads: list[int]) -> onnx.ModelProto:
    """A padded average of 3 x 3 over values on a grid that reaches below zero, read by a quantized convolution."""
    grid = ["step", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["images", *grid], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", *grid], ["values"]),
        helper.make_node(
            "AveragePool", ["values"], ["mean"], "pool", kernel_shape=[3, 3], pads=pads, count_include_pad=1
        ),
        helper.make_node("QuantizeLinear", ["mean", *grid], ["whole_mean"]),
        helper.make_node("DequantizeLinear", ["whole_mean", *grid], ["mean_again"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_step"], ["weights"]),
        helper.make_node("Conv", ["mean_again", "weights"], ["logits"]),
    ]
    constants = {
        "step": np.float32(0.02),
        "zero": np.uint8(100),
        "weight": np.full((4, 2, 1, 1), 100, np.int8),
        "weight_step": np.float32(0.01),
    }
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, None, None])
        for name, channels in (("images", 2), ("logits", 4))
    ]
    ends[0].CopyFrom(helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 2, 8, 8]))
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "pooled", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_an_average_pads_with_zeros_although_its_grid_has_a_zero_point() -> None:
    values, proto = np.full((1, 2, 8, 8), 2.0, np.float32), pooled([1, 1, 1, 1])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"images": values})[0]
    pad_before_pools(proto.graph)
    model = openvino.Core().read_model(proto.SerializeToString())
    apply_moc_transformations(model, cf=False, smart_reshape=True)
    got = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([values])[0]
    assert abs(got - expected).max() < 0.1
    assert expected[0, 0, 0, 0] == pytest.approx(4 * 4 / 9, abs=0.1)


def test_an_average_without_padding_stays_as_it_is() -> None:
    proto = pooled([0, 0, 0, 0])
    pad_before_pools(proto.graph)
    assert "Pad" not in {node.op_type for node in proto.graph.node}
