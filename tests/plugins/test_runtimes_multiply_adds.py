"""The multiply-adds of files that pqd has not made: as many as one image takes, whatever a runtime makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from runtime_kit import implementation, settings_of
from torch import nn

from pqd_core import Operator
from pqd_measure.work import work_by
from pqd_runtimes import onnx_execution, torch_execution

CHANNELS, SIZE = 6, 8
RUNTIMES = ("onnxruntime", "openvino")
KERNELS = np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
OF_ONE = SIZE**2 * CHANNELS**2 * 9


def convolution(kind: str, takes: str, gives: str, weight: str) -> NodeProto:
    return helper.make_node(kind, [takes, weight], [gives], f"node.{weight}", pads=[1] * 4)


def quantized() -> list[NodeProto]:
    """Images to integers, a convolution, and back."""
    grid = ["scale", "zero"]
    return [
        helper.make_node("QuantizeLinear", ["x", *grid], ["x.q"]),
        helper.make_node(
            "QLinearConv", ["x.q", *grid, "first.weight", "scale", "middle", *grid], ["h.q"], pads=[1] * 4
        ),
        helper.make_node("DequantizeLinear", ["h.q", *grid], ["h"]),
    ]


def save(file: Path, nodes: list[NodeProto], batch: int | str = "N") -> Path:
    """A network whose last node gives `y`."""
    takes, gives = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, CHANNELS, SIZE, SIZE]) for name in "xy"
    )
    grid = {"scale": np.float32(0.1), "zero": np.uint8(128), "middle": np.int8(0)}
    weights = {"first.weight": np.sign(KERNELS).astype(np.int8), "second.weight": KERNELS}
    used = {name for node in nodes for name in node.input}
    stored = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in (grid | weights).items() if name in used
    ]
    graph = helper.make_graph(nodes, "g", [takes], [gives], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    return file


def run_of(file: Path, runtime: str, **how: Any) -> list[Operator]:
    operators: list[Operator] = implementation(runtime).execution(file, settings_of(runtime, **how))
    return operators


def macs(file: Path, runtime: str, **how: Any) -> int:
    return sum(one.macs for one in run_of(file, runtime, **how))


def mixed(folder: Path) -> Path:
    """One convolution on integers and an equal one in float, of channels that fill no vector."""
    return save(folder / "mixed.onnx", [*quantized(), convolution("Conv", "h", "y", "second.weight")])


def test_half_on_integers_is_half_and_the_other_half_is_named_with_its_reason(tmp_path: Path) -> None:
    file = mixed(tmp_path)
    work = work_by(implementation("onnxruntime"), file, settings_of("onnxruntime"), None)
    assert (work.share, work.macs) == (0.5, 2 * OF_ONE)
    assert list(work.in_float) == [("second (Conv) stays float", "its weight is stored in float")]


def test_what_is_on_integers_is_the_same_as_with_padded_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_integers() -> list[tuple[str, int]]:
        return [(one.kind, one.macs) for one in run_of(file, "onnxruntime") if one.integer]

    file = mixed(tmp_path)
    found = on_integers()
    monkeypatch.setattr(onnx_execution, "PADS_CHANNELS", "NoOptimizerOfThatName")
    assert macs(file, "onnxruntime") > 2 * OF_ONE, "nothing was padded, so nothing is compared"
    assert on_integers() == found


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("batch", ["N", 4])
def test_a_convolution_counts_for_one_image(tmp_path: Path, runtime: str, kind: str, batch: int | str) -> None:
    file = save(tmp_path / "one.onnx", [convolution(kind, "x", "y", "second.weight")], batch)
    assert macs(file, runtime) == OF_ONE


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_multiplies_each_input(tmp_path: Path, runtime: str, groups: int) -> None:
    """As the definition of its layer counts: every input value meets every kernel of its group."""
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups))
    example = torch.zeros(2, 4, 5, 5)
    counts = set()
    for name in (runtime, "torch"):
        for part in ("shared", name):
            (tmp_path / part).mkdir(exist_ok=True)
        settings = settings_of(name)
        file = implementation(name).export(model.eval(), example, tmp_path / name, tmp_path / "shared", settings)
        counts.add(macs(file, name))
    assert counts == {4 * 5 * 5 * 6 * 9 // groups}


def test_a_program_of_four_images_counts_for_one() -> None:
    layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).eval()
    program = torch.export.export(nn.Sequential(layer, nn.Flatten()), (torch.zeros(4, CHANNELS, SIZE, SIZE),))
    image = (CHANNELS, SIZE, SIZE)
    eager = torch_execution.eager_execution(program, image)
    compiled = torch_execution.compiled_execution(Path("four.pt2"), program, image)
    assert [sum(one.macs for one in ran) for ran in (eager, compiled)] == [OF_ONE, OF_ONE]


def test_a_dynamic_quantization_is_a_conversion(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x.q", "x.scale", "x.zero"]),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale", "x.zero"], ["h"]),
        convolution("Conv", "h", "y", "second.weight"),
    ]
    roles = {one.kind: one.role for one in run_of(save(tmp_path / "dynamic.onnx", nodes), "onnxruntime")}
    assert roles["DynamicQuantizeLinear"] == "convert"
