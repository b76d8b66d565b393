"""What runs on integers of a file that takes images of any size, for those that it is timed with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import numpy_helper, parser
from runtime_kit import implementation, settings_of
from test_measure_bench import QUICK, Said, bench
from torch import Tensor, nn
from torch.export import Dim

from pqd_core import DeployError, RuntimeDef
from pqd_core.host import plugins
from pqd_runtimes import OnnxRuntimeSettings

__all__ = ["bench"]
CHANNELS, CLASSES = 32, 40
LINEAR = CHANNELS * CLASSES
NETWORK = f"""<ir_version: 8, opset_import: ["": 13]> net (float[N,3,H,W] x) => (float[N,{CLASSES}] y) {{
    q = QuantizeLinear(x, step, zero)  d = DequantizeLinear(q, step, zero)
    w = DequantizeLinear(conv, step, middle)  c = Conv<pads=[1,1,1,1]>(d, w)
    qc = QuantizeLinear(c, step, zero)  dc = DequantizeLinear(qc, step, zero)
    m = GlobalAveragePool(dc)  f = Flatten(m)  y = Gemm(f, linear) }}"""
"""An INT8 convolution and a float classifier."""


def convolution_of(shape: tuple[int, ...]) -> int:
    """Its multiply-adds for an image."""
    return CHANNELS * 9 * int(np.prod(shape))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network as `free.onnx`, which says as little of its images as it can, and as `free.xml`."""
    folder = tmp_path_factory.mktemp("free")
    model = parser.parse_model(NETWORK)
    draw = np.random.default_rng(0)
    values: dict[str, Any] = {"step": np.float32(0.05), "zero": np.uint8(128), "middle": np.int8(0)}
    values["conv"] = draw.integers(-60, 60, (CHANNELS, 3, 3, 3), dtype=np.int8)
    values["linear"] = draw.normal(size=(CHANNELS, CLASSES)).astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in values.items())
    onnx.save(model, folder / "free.onnx")
    openvino.save_model(openvino.Core().read_model(folder / "free.onnx"), folder / "free.xml")
    return folder


def test_the_shape_that_the_files_are_timed_with_is_that_of_their_shares(
    files: Path, bench: Callable[..., Said]
) -> None:
    arguments = [str(files / "free.onnx"), f"{files / 'free.onnx'}@openvino", str(files / "free.xml")]
    said = bench(*arguments, "--shape", "3,20,24", *QUICK, "--out", "found.json")
    assert said.code == 0, said.err
    for one in json.loads(Path("found.json").read_text())["files"]:
        share, convolution = one["int8_share"], convolution_of((3, 20, 24))
        assert share["n"] == convolution + LINEAR
        assert share["value"] == pytest.approx(convolution / (convolution + LINEAR))


def test_images_of_a_persons_own_have_a_shape_too(files: Path, bench: Callable[..., Said]) -> None:
    np.save("own.npy", np.zeros((4, 3, 12, 18), np.float32))
    said = bench(str(files / "free.onnx"), "--images", "own.npy", *QUICK, "--out", "found.json")
    assert said.code == 0, said.err
    (found,) = json.loads(Path("found.json").read_text())["files"]
    assert found["int8_share"]["n"] == convolution_of((3, 12, 18)) + LINEAR


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [
        ("OfFixedSizes", "it takes images of any size, and its runtime tells only what it runs of a file with sizes"),
        ("Crashing", "its process exited with status 3 during a look at what it runs"),
    ],
)
def test_a_runtime_that_cannot_tell_has_its_files_timed_all_the_same(
    stranger: str, reason: str, files: Path, bench: Callable[..., Said]
) -> None:
    load = f"shy_runtimes:{stranger}"
    theirs = RuntimeDef(name="theirs", summary="Of strangers.", load=load, settings=OnnxRuntimeSettings)
    plugins.default_host().add("stranger", theirs)
    said = bench(f"{files / 'free.onnx'}@theirs", "--shape", "3,20,24", *QUICK, "--out", "found.json")
    assert said.code == 0, said.err
    assert f"its share in INT8 is missing: {reason}" in said.out
    (found,) = json.loads(Path("found.json").read_text())["files"]
    assert found["metrics"]["latency_ms"]["value"] > 0


class Mean(nn.Module):
    """The mean over all pixels, however many."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float program whose batch, height and width are free."""
    convolution = nn.Conv2d(3, CHANNELS, 3, padding=1)
    model = nn.Sequential(convolution, nn.ReLU(), Mean(), nn.Linear(CHANNELS, CLASSES)).eval()
    free = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    found = torch.export.export(model, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=free, strict=False)
    for node in found.graph.nodes:  # paths and source lines are refused
        layer = list(node.meta.get("nn_module_stack", {"": ("", "")}).values())[-1][0]
        node.meta = {"val": node.meta.get("val"), "nn_module_stack": {"layer": (layer, "")}}
    found.example_inputs = None
    file = tmp_path_factory.mktemp("program") / "free.pt2"
    torch.export.save(found, file)
    return file


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_a_program_of_any_size_counts_for_the_shape_and_runs_at_it(mode: str, program: Path) -> None:
    torch_runtime, settings = implementation("torch"), settings_of("torch", mode=mode)
    ran = torch_runtime.execution(program, settings, shape=(3, 20, 24))
    assert [one.macs for one in ran if one.macs] == [convolution_of((3, 20, 24)), LINEAR]
    session = torch_runtime.open_session(program, 1, settings, batch=2)
    assert session(np.zeros((2, 3, 20, 24), np.float32)).shape == (2, CLASSES)


def test_without_a_shape_nothing_is_made_up(files: Path, program: Path) -> None:
    for file, runtime in ((files / "free.onnx", "onnxruntime"), (files / "free.xml", "openvino"), (program, "torch")):
        with pytest.raises(DeployError, match="it takes images of any size; say of which size"):
            implementation(runtime).execution(file, settings_of(runtime))
