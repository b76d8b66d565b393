"""`pqd pack` and `pqd unpack` as a person meets them."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import external_data_helper
from pack_kit import forged, onnx_file, openvino_files, sparse_weight

from pqd_core import DataError
from pqd_pack import commands, packing

WEIGHTS = (sparse_weight(64, 32, 3, 3), sparse_weight(10, 64))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_file(*WEIGHTS))
    return file


def refused(reason: str, command: object, *arguments: object, **options: object) -> None:
    with pytest.raises(DataError, match=reason) as error:
        command(*arguments, **options)  # type: ignore[operator]
    assert error.value.exit_code == 2
    assert all(problem.where for problem in error.value.problems)


def left_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_packing_says_what_it_gained_and_unpacking_gives_the_file_back(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.pack(model)
    told = capsys.readouterr().out
    packed = tmp_path / "model.pqdz"
    assert f"{model.stat().st_size:,} bytes -> {packed}: {packed.stat().st_size:,} bytes" in told
    assert "19,072 INT8 weights, 70." in told
    assert "unpacked and compared bit for bit" in told
    commands.unpack(packed, tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == model.read_bytes()
    assert left_in(tmp_path) == ["model.onnx", "model.pqdz", "out"]


def test_openvinos_weights_come_along(tmp_path: Path) -> None:
    files = openvino_files(*WEIGHTS)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    commands.pack(tmp_path / "model.xml", tmp_path / "packed")
    commands.unpack(tmp_path / "packed", tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in left_in(tmp_path / "out")} == files


def test_a_list_shows_every_part_and_writes_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.pack(model)
    before = left_in(tmp_path)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    commands.unpack(tmp_path / "model.pqdz", only_list=True)
    told = capsys.readouterr().out
    for words in ("model.onnx", "sha-256", "INT8 weights", "scales, biases", "graph", "bits for each INT8 weight"):
        assert words in told
    assert left_in(tmp_path) == before


def test_a_file_without_int8_weights_is_packed_and_the_reader_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("words " * 100)
    commands.pack(tmp_path / "notes.txt")
    assert "no INT8 weights were found" in capsys.readouterr().out


def test_nothing_is_overwritten_unless_asked_for(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "model.pqdz"
    packed.write_text("mine")
    refused("there already; replace it with --force", commands.pack, model)
    assert packed.read_text() == "mine"
    commands.pack(model, force=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_text("mine")
    refused("there already; replace it with --force", commands.unpack, packed, tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_text() == "mine"
    commands.unpack(packed, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == model.read_bytes()


def test_no_file_is_replaced_by_what_is_made_of_it_whatever_is_asked(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    refused("replace what it is made of", commands.pack, model, model, force=True)
    (tmp_path / "link").symlink_to(model)
    refused("replace what it is made of", commands.pack, model, tmp_path / "link", force=True)
    assert model.read_bytes() == before
    for name, content in openvino_files(*WEIGHTS).items():
        (tmp_path / name).write_bytes(content)
    refused("replace what it is made of", commands.pack, tmp_path / "model.xml", tmp_path / "model.bin", force=True)
    packed = tmp_path / "packed"
    packed.write_bytes(packing.pack({"packed": b"b"}))
    refused("replace what it is made of", commands.unpack, packed, tmp_path, force=True)


def test_a_limit_may_be_as_large_as_one_likes(model: Path, tmp_path: Path) -> None:
    commands.pack(model, max_megabytes=10**30)
    commands.unpack(tmp_path / "model.pqdz", tmp_path / "out", max_megabytes=10**30)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == model.read_bytes()


def test_what_cannot_be_packed_is_refused_with_a_reason(model: Path, tmp_path: Path) -> None:
    refused("there is no such file", commands.pack, tmp_path / "none.onnx")
    for folder in (tmp_path, Path(), Path(".."), Path("/")):
        refused("it is a folder", commands.pack, folder)
    refused("longer than the limit of 0 MB", packing_within_nothing, model)
    refused("cannot be written", commands.pack, model, model / "below" / "x.pqdz")
    (tmp_path / "odd\n.onnx").write_bytes(b"")
    refused("its name has characters", commands.pack, tmp_path / "odd\n.onnx")
    (tmp_path / "alone.xml").write_bytes(openvino_files(*WEIGHTS)["model.xml"])
    refused("alone.bin: there is no such file", commands.pack, tmp_path / "alone.xml")
    external = onnx.load(model)
    external_data_helper.convert_model_to_external_data(external, location="model.data", size_threshold=0)
    onnx.save(external, tmp_path / "external.onnx")
    refused("weights lie in another file, model.data", commands.pack, tmp_path / "external.onnx")


def packing_within_nothing(model: Path) -> None:
    commands.read_whole(model, 10)


def test_what_cannot_be_unpacked_is_refused_with_a_reason(model: Path, tmp_path: Path) -> None:
    refused("no file that pqd pack has written", commands.unpack, model)
    refused("there is no such file", commands.unpack, tmp_path / "none")
    (tmp_path / "cut").write_bytes(packing.pack({"a": b"b"})[:-1])
    refused("checksum does not match.*get the file again", commands.unpack, tmp_path / "cut")
    bomb = {"files": [{"name": "a", "size": 2**40, "sha256": "0" * 64}], "streams": [["zstd", 0]]}
    (tmp_path / "bomb").write_bytes(forged(bomb))
    for listing in (False, True):
        refused("unpacks to 1,048,576 MB.*--max-megabytes", commands.unpack, tmp_path / "bomb", only_list=listing)
    assert "a" not in left_in(tmp_path)


def test_a_failure_while_writing_leaves_nothing_behind(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused("No space left on device", commands.pack, model)
    assert left_in(tmp_path) == ["model.onnx"]


def test_a_packed_file_that_would_not_unpack_is_never_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "unpack_files", lambda *_: {})
    with pytest.raises(AssertionError, match="nothing was written"):
        commands.pack(model)
    assert left_in(tmp_path) == ["model.onnx"]
