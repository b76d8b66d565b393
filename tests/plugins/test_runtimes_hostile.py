"""A file that is damaged, or made to do harm, is refused before it can do anything."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, external_data_helper, numpy_helper
from runtime_kit import NAMES, Shelf, implementation, settings_of, the_shelf

from pqd_core import DeployError


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


@pytest.fixture
def files(shelf: Shelf, tmp_path: Path) -> dict[str, Path]:
    """Copies that a test may spoil."""
    copies = {}
    for runtime in NAMES:
        original = shelf.file("int8", runtime)
        copies[runtime] = Path(shutil.copytree(original.parent, tmp_path / runtime)) / original.name
    return copies


def open_file(runtime: str, file: Path, **settings: Any) -> None:
    implementation(runtime).open_session(file, 1, settings_of(runtime, **settings), None)


def refused(runtime: str, file: Path, reason: str, **settings: Any) -> None:
    """Both ways to a file refuse it, and say which file it is and what to do."""
    with pytest.raises(DeployError, match=reason) as error:
        open_file(runtime, file, **settings)
    (problem,) = error.value.problems
    assert str(file.parent) in problem.where
    assert problem.hint
    if not settings:
        with pytest.raises(DeployError, match=reason):
            implementation(runtime).weights(file)


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(files: dict[str, Path], runtime: str, share: float) -> None:
    file = files[runtime]
    os.truncate(file, int(file.stat().st_size * share))
    refused(runtime, file, ".")


def test_openvino_refuses_truncated_weights(files: dict[str, Path]) -> None:
    parameters = files["openvino"].with_suffix(".bin")
    os.truncate(parameters, parameters.stat().st_size // 2)
    refused("openvino", files["openvino"], "OpenVINO cannot read it")


def test_openvino_misses_its_weights(files: dict[str, Path]) -> None:
    files["openvino"].with_suffix(".bin").unlink()
    refused("openvino", files["openvino"], "no such file")


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\0" * 4096, "."), (b"PK\x03\x04" * 9, ".")],
    ids=["nothing", "zeros", "zip"],
)
def test_a_file_of_something_else_is_refused(files: dict[str, Path], runtime: str, content: bytes, reason: str) -> None:
    files[runtime].write_bytes(content)
    refused(runtime, files[runtime], reason)


@pytest.mark.parametrize("runtime", NAMES)
def test_a_file_over_the_limit_is_not_even_read(files: dict[str, Path], runtime: str) -> None:
    with files[runtime].open("r+b") as stream:
        stream.truncate(2 * 2**20)
    refused(runtime, files[runtime], "over the limit of 1 MB", max_megabytes=1)


def test_an_onnx_file_may_not_point_outside_of_itself(files: dict[str, Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.ones(10, np.float32).tobytes())
    model = onnx.load(files["onnxruntime"])
    outside = numpy_helper.from_array(np.ones(10, np.float32), "outside")
    external_data_helper.set_external_data(outside, "../secret")
    outside.data_location = TensorProto.EXTERNAL
    outside.ClearField("raw_data")
    hidden = onnx.helper.make_node("Constant", [], ["unused"], value=outside)
    model.graph.node.insert(0, hidden)
    files["onnxruntime"].write_bytes(model.SerializeToString())
    refused("onnxruntime", files["onnxruntime"], "data outside of itself")


Edit = Callable[[bytes], bytes]


def rewrite(file: Path, ending: str, edit: Edit, compression: int = zipfile.ZIP_STORED) -> None:
    """The archive `file` with the members that end in `ending` changed by `edit`."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.endswith(ending) for name in members)
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, edit(content) if name.endswith(ending) else content)


def rewrite_graph(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    def edit_bytes(content: bytes) -> bytes:
        program = json.loads(content)
        edit(program)
        return json.dumps(program).encode()

    rewrite(file, "models/model.json", edit_bytes)


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def pickled(mark: Path) -> bytes:
    stream = io.BytesIO()
    torch.save(Payload(mark), stream)
    return stream.getvalue()


def test_an_archive_that_is_only_rewritten_still_loads(files: dict[str, Path]) -> None:
    """So that the refusals below are refusals of what was changed."""
    rewrite(files["torch"], "", lambda content: content)
    open_file("torch", files["torch"])


def test_pickled_sample_inputs_are_not_unpickled(files: dict[str, Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    rewrite(files["torch"], "sample_inputs/model.pt", lambda _: pickled(mark))
    refused("torch", files["torch"], "pickled sample inputs")
    assert not mark.exists()
    with pytest.raises(AssertionError):  # what the check is for
        torch.export.load(files["torch"])
    assert mark.exists()


def test_a_pickled_weight_is_not_unpickled(files: dict[str, Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def mark_as_pickled(content: bytes) -> bytes:
        payloads = json.loads(content)
        next(iter(payloads["config"].values()))["use_pickle"] = True
        return json.dumps(payloads).encode()

    rewrite(files["torch"], "weights/weight_0", lambda _: pickled(mark))
    rewrite(files["torch"], "weights_config.json", mark_as_pickled)
    refused("torch", files["torch"], "is pickled")
    assert not mark.exists()


def expressions(value: Any) -> list[dict[str, Any]]:
    """Every shape expression in a serialized program."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [value] if isinstance(value, dict) and isinstance(value.get("expr_str"), str) else []
    return found + [expression for entry in inner for expression in expressions(entry)]


def test_a_shape_expression_is_not_evaluated_as_python(files: dict[str, Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def poison(program: dict[str, Any]) -> None:
        for expression in expressions(program):
            expression["expr_str"] = f"__import__('os').mkdir('{mark}') or {expression['expr_str']}"

    rewrite_graph(files["torch"], poison)
    refused("torch", files["torch"], "expr_str .* is not allowed")
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "torch.os.system", "_operator.call", "#x:y"],
)
def test_operators_that_reach_outside_are_refused(files: dict[str, Path], target: str) -> None:
    rewrite_graph(files["torch"], lambda program: first_node(program).update(target=target))
    refused("torch", files["torch"], "target .* is not allowed")


def first_node(program: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = program["graph_module"]["graph"]["nodes"][0]
    return node


def test_a_name_that_is_code_is_refused(files: dict[str, Path]) -> None:
    rewrite_graph(files["torch"], lambda program: first_node(program).update(name="x = print(1) #"))
    refused("torch", files["torch"], "is not allowed")


def test_guards_that_come_as_source_code_are_refused(files: dict[str, Path]) -> None:
    rewrite_graph(files["torch"], lambda program: program.update(guards_code=["print(1)"]))
    refused("torch", files["torch"], "source code")


def test_a_tree_that_names_a_module_is_refused(files: dict[str, Path]) -> None:
    def poison(program: dict[str, Any]) -> None:
        call = program["graph_module"]["module_call_graph"][0]
        call["signature"]["in_spec"] = call["signature"]["in_spec"].replace("builtins.tuple", "collections.deque")

    rewrite_graph(files["torch"], poison)
    refused("torch", files["torch"], "one tensor to one tensor")


def test_a_compressed_archive_cannot_blow_up(files: dict[str, Path]) -> None:
    rewrite(files["torch"], "weight_0", lambda content: content + b"\0" * 2**20, zipfile.ZIP_DEFLATED)
    refused("torch", files["torch"], "compressed content")


@pytest.mark.parametrize("name", ["x/data/constants/opaque_obj_0", "x/data/aotinductor/model/a.so", "x/../../y"])
def test_an_archive_with_anything_else_inside_is_refused(files: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(files["torch"], "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, b"?")
    refused("torch", files["torch"], "unexpected content")


@pytest.mark.parametrize(("runtime", "count"), [("onnxruntime", 80), ("openvino", 40), ("torch", 20)])
def test_spoiled_files_are_opened_or_refused_in_bounded_memory(shelf: Shelf, runtime: str, count: int) -> None:
    """In a process of its own, so that one that a file kills, or blows up, is seen."""
    file = shelf.file("int8", runtime)
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), runtime, str(file), str(count)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found.pop("peak_bytes") < 2**30
    assert set(found) <= {"opened", "refused"}
    assert found["refused"] > count / 4
