"""A file can ask OpenVINO for the kernels that were the fastest when it was made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from runtime_kit import Shelf, images, settings_of, the_shelf

from pqd_core import DeployError
from pqd_pack.packing import pack, unpack
from pqd_runtimes import OpenVinoSettings, openvino_kernels, openvino_runtime
from pqd_runtimes.openvino_kernels import ATTRIBUTE, MATRIX_KERNEL, choose_kernels, preferred

OPTIONS = openvino_runtime.session_options(1, settings_of("openvino"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


@pytest.fixture
def file(shelf: Shelf, tmp_path: Path) -> Path:
    """A quantized network's file that a test may change."""
    original = shelf.file("int8", "openvino")
    for part in (original, original.with_suffix(".bin")):
        shutil.copy(part, tmp_path / part.name)
    return tmp_path / original.name


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_kernels, "LEAST_SECONDS", 0)
    monkeypatch.setattr(openvino_kernels, "LEAST_ROUNDS", 1)


def kernels(file: Path) -> dict[str, str]:
    model = openvino.Core().read_model(file)
    model.reshape([4, *images(1).shape[1:]])
    graph = openvino.Core().compile_model(model, "CPU", OPTIONS).get_runtime_model()
    return {
        op.get_friendly_name(): str(op.get_rt_info()["primitiveType"].astype(str)) for op in graph.get_ordered_ops()
    }


def answers(file: Path) -> Any:
    session = openvino_runtime.open_session(file, 1, settings_of("openvino"))
    given = session(images(4).numpy())
    session.close()
    return given


def matrix_layers(file: Path) -> set[str]:
    found = {name for name, kernel in kernels(file).items() if MATRIX_KERNEL.match(kernel)}
    if not found:
        pytest.skip("this CPU has no matrix kernel for INT8 convolutions, so there is nothing to choose from")
    return found


def test_a_faster_kernel_is_asked_for_and_gives_the_same_answers(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, before = matrix_layers(file), answers(file)
    monkeypatch.setattr(openvino_kernels, "GAIN", float("inf"))  # whatever is measured
    chosen = choose_kernels(file, images(4).numpy(), OPTIONS)
    assert set(chosen) == layers
    assert preferred(file) == chosen
    assert all(kernel.startswith("jit") for name, kernel in kernels(file).items() if name in layers)
    assert np.array_equal(answers(file), before)


def test_a_slower_kernel_is_not_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix_layers(file)
    before = file.read_bytes()
    monkeypatch.setattr(openvino_kernels, "GAIN", 0.0)
    assert choose_kernels(file, images(4).numpy(), OPTIONS) == {}
    assert file.read_bytes() == before


def test_a_float_file_keeps_its_bytes_and_says_so(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = shelf.file("float", "openvino")
    for part in (original, original.with_suffix(".bin")):
        shutil.copy(part, tmp_path / part.name)
    copy = tmp_path / original.name
    assert choose_kernels(copy, images(4).numpy(), OPTIONS) == {}
    assert copy.read_bytes() == original.read_bytes()
    assert "no convolution has kernels to choose from" in capsys.readouterr().err


def test_the_choice_is_made_when_a_file_is_exported_for_a_batch(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(openvino_runtime, "choose_kernels", lambda _, images, __: asked.append(images.shape))
    (tmp_path / "shared").mkdir()
    for batch in (None, 8):
        settings = OpenVinoSettings(kernels_for_batch=batch)
        example = torch.zeros(2, *images(1).shape[1:])
        openvino_runtime.export(shelf.model("int8"), example, tmp_path, tmp_path / "shared", settings)
    assert asked == [(8, *images(1).shape[1:])]


def test_kernels_that_cannot_be_timed_are_told_with_what_to_do(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("Unable to allocate")

    monkeypatch.setattr(openvino_runtime, "choose_kernels", fail)
    (tmp_path / "shared").mkdir()
    settings, example = OpenVinoSettings(kernels_for_batch=8), torch.zeros(2, *images(1).shape[1:])
    with pytest.raises(DeployError, match="cannot be timed: Unable to allocate; choose a smaller kernels_for_batch"):
        openvino_runtime.export(shelf.model("int8"), example, tmp_path, tmp_path / "shared", settings)


def test_the_choice_survives_packing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix_layers(file)
    monkeypatch.setattr(openvino_kernels, "GAIN", float("inf"))
    choose_kernels(file, images(4).numpy(), OPTIONS)
    files = {part.name: part.read_bytes() for part in (file, file.with_suffix(".bin"))}
    assert ATTRIBUTE.encode() in files[file.name]
    assert unpack(pack(files), 2**20) == files
