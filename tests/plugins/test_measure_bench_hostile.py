"""ONNX files that are made to fill the memory, or never to end, lose their row and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pqd_core.host.cli import main
from pqd_core.host.plugins import load_plugins, new_host, register_plugin

QUICK = ["--processes", "2", "--rounds", "5", "--seconds", "0.1", "--threads", "1"]


def save(file: str, nodes: list[NodeProto], **stored: np.ndarray) -> None:
    """A network whose last node gives `y`; it takes images `x` (N, 1, 4, 4)."""
    takes = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M"])
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", [takes], [gives], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


def save_mean(file: str) -> None:
    save(file, [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2, 3], keepdims=0)])


def save_bomb(file: str) -> None:
    """A few hundred bytes that stand for 256 GB of ones."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["ones"], value=one),
        helper.make_node("ReduceSum", ["ones", "first"], ["sum"], keepdims=0),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["sum", "mean"], ["y"]),
    ]
    save(file, nodes, size=np.array([2**36]), first=np.array([0]))


def save_endless(file: str) -> None:
    """A loop of 2^62 turns."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["M"]) for name in ("before", "after")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    goes_on = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("was", "is")]
    body = helper.make_graph(
        [helper.make_node("Sin", ["before"], ["after"]), helper.make_node("Identity", ["was"], ["is"])],
        "body",
        [turn, goes_on[0], value[0]],
        [goes_on[1], value[1]],
    )
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Loop", ["turns", "yes", "mean"], ["y"], body=body),
    ]
    save(file, nodes, turns=np.array(2**62), yes=np.array(True))


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`pqd bench ARGUMENTS...` with the bundled runtimes: its exit status, and all that it said."""
    import pqd_measure
    import pqd_runtimes

    host = load_plugins(new_host(), [])
    for module in (pqd_runtimes, pqd_measure):
        register_plugin(host, module, module.__name__.removeprefix("pqd_"))
    monkeypatch.setattr("pqd_core.host.plugins._default", host)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pqd", "bench", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out + said.err

    return call


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_memory_bomb_does_not_go_off(bench: Callable[..., tuple[int, str]], runtime: str) -> None:
    save_mean("good.onnx")
    save_bomb("bomb.onnx")
    code, said = bench("good.onnx", "bomb.onnx", "--runtime", runtime, *QUICK, "--memory-limit-mb", "1024")
    assert code == 1
    assert "bomb.onnx was not measured: " in said
    assert "more memory than the 1024 MB" in said or "its process" in said
    assert "good.onnx was not measured" not in said


def test_a_file_that_never_ends_is_ended(bench: Callable[..., tuple[int, str]]) -> None:
    save_mean("good.onnx")
    save_endless("endless.onnx")
    code, said = bench("good.onnx", "endless.onnx", *QUICK, "--limit-s", "8")
    assert code == 1
    assert "endless.onnx was not measured: gave no answer within 8 s of opening the file" in said
    assert "good.onnx was not measured" not in said


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_told_and_not_timed(bench: Callable[..., tuple[int, str]], share: float) -> None:
    save_mean("half.onnx")
    content = Path("half.onnx").read_bytes()
    Path("half.onnx").write_bytes(content[: int(len(content) * share)])
    code, said = bench("half.onnx", *QUICK)
    assert code == 1
    assert "half.onnx was not measured: half.onnx: " in said
