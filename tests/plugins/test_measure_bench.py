"""`pqd bench` measures files that nobody has a spec for, and takes nothing they say on trust."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from attrs import frozen
from linear_runtime import LinearSettings
from measure_kit import some_weights
from onnx import TensorProto, helper, numpy_helper

import pqd_measure
import pqd_runtimes
from pqd_core import DataError, RuntimeDef, installed
from pqd_core.host import plugins
from pqd_core.host.cli import main
from pqd_core.testing import toy_host
from pqd_measure import side_by_side
from pqd_measure.bench_files import read_files
from pqd_measure.bench_images import Unfit, fitting_shape, random_images, read_images

QUICK = ["--processes", "2", "--rounds", "6", "--seconds", "0.2", "--threads", "1"]
LINEAR = RuntimeDef(
    name="linear", summary="For tests.", load="linear_runtime", settings=LinearSettings, opens={".npy": ()}
)


@frozen
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`pqd bench ARGUMENTS...` in a folder with a network `a.npy`, where the runtime `linear` is installed too."""
    host = toy_host(pqd_runtimes, pqd_measure)
    host.add("test", LINEAR)
    monkeypatch.setattr(plugins, "_default", host)
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", some_weights())

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["pqd", "bench", *arguments])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capsys.readouterr())

    return call


def save_dense(file: str, *, quantized: bool) -> None:
    """Images of 8 values; one layer to 8, quantized or not, and one to 2 in float."""
    takes, gives = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", 8), ("y", 2))
    )
    grid = {"scale": np.float32(0.1), "zero": np.uint8(128), "middle": np.int8(0)}
    weights = {"first.weight": np.eye(8, dtype=np.int8 if quantized else np.float32), "second.weight": np.eye(8, 2)}
    nodes = [helper.make_node("MatMul", ["x", "first.weight"], ["h"], "first")]
    if quantized:
        inputs = ["x.q", "scale", "zero", "first.weight", "scale", "middle", "scale", "zero"]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x.q"], "images"),
            helper.make_node("QLinearMatMul", inputs, ["h.q"], "first"),
            helper.make_node("DequantizeLinear", ["h.q", "scale", "zero"], ["h"], "back"),
        ]
    nodes.append(helper.make_node("MatMul", ["h", "second.weight"], ["y"], "second"))
    stored = grid | weights | {"second.weight": weights["second.weight"].astype(np.float32)}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [takes], [gives], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


def test_two_files_are_put_side_by_side_and_the_slower_one_is_called_so(bench: Callable[..., Said]) -> None:
    said = bench("a.npy@linear,sleep_ms=2", "a.npy@linear,sleep_ms=12", *QUICK, "--out", "found.json")
    assert said.code == 0, said.err
    assert "a.npy@linear,sleep_ms=12 is slower than a.npy@linear,sleep_ms=2: it takes " in said.out
    assert "images: random numbers" in said.out
    found = json.loads(Path("found.json").read_text())
    fast, slow = found["files"]
    assert slow["metrics"]["latency_ratio"]["value"] > 2
    assert fast["metrics"]["latency_ratio"]["value"] == 1
    for metric in ("latency_ms", "latency_p95_ms", "throughput_ips", "load_ms", "first_ms", "memory_bytes"):
        low, high = slow["metrics"][metric]["interval"]
        assert 0 < low <= slow["metrics"][metric]["value"] <= high
    assert slow["size_bytes"] == Path("a.npy").stat().st_size
    assert slow["how"]["processes"] == 2


def test_what_runs_on_integers_is_told_beside_the_times(bench: Callable[..., Said]) -> None:
    save_dense("int8.onnx", quantized=True)
    save_dense("float.onnx", quantized=False)
    said = bench("int8.onnx", "float.onnx", "a.npy", *QUICK, "--out", "found.json")
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines()]
    assert next(row for row in rows if row[0] == "file")[-1] == "INT8"
    shares = {row[0]: row[-1] for row in rows if row[0].endswith((".onnx", ".npy"))}
    assert shares == {"int8.onnx": "80%", "float.onnx": "0%", "a.npy": "missing"}
    assert "- int8.onnx: second (MatMul) stays float: its weight is stored in float" in said.out
    assert "- float.onnx: everything is float: nothing in the file is quantized" in said.out
    assert "- a.npy: its share in INT8 is missing: its runtime does not tell what it runs" in said.out
    int8, full, npy = (one["int8_share"] for one in json.loads(Path("found.json").read_text())["files"])
    assert (int8["value"], int8["n"], full["value"]) == (0.8, 80, 0)
    assert int8["float_operators"] == ["second (MatMul) stays float: its weight is stored in float"]
    assert npy == {"value": None, "missing": "its runtime does not tell what it runs"}


def test_brackets_in_a_path_are_shown_as_they_are(bench: Callable[..., Said]) -> None:
    names = ["[bold]x.npy", "y[/b].npy"]  # the second is in a folder
    Path("y[").mkdir()
    for name in names:
        np.save(name, some_weights())
    said = bench(*names, *QUICK)
    assert said.code == 0, said.err
    assert {line.split()[0] for line in said.out.splitlines() if ".npy  " in line} == set(names)


def test_one_file_given_twice_cannot_be_told_apart_from_itself(bench: Callable[..., Said]) -> None:
    said = bench("a.npy@linear,sleep_ms=3", "a.npy@linear,sleep_ms=3", *QUICK, "--json")
    [sentence] = [line for line in json.loads(said.out)["says"] if "told apart" in line]
    assert "a.npy@linear,sleep_ms=3 #2" in sentence


def test_noise_is_said(bench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "DISTURBED", 1e9)  # whatever else runs beside the tests
    said = bench("a.npy@linear,sleep_ms=1", "a.npy", *QUICK, "--noise-limit", "0")
    assert "latency_ratio is noisy: another measurement may differ by " in said.out


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("fails=raises on opening", "was not measured: ValueError: this file is of another version"),
        ("fails=crashes", "was not measured: its process was ended by SIGSEGV during warm-up"),
        ("fills_mb=900", "was not measured: it takes more memory than the 256 MB that its process may have"),
    ],
)
def test_a_file_that_fails_does_not_take_the_others_along(bench: Callable[..., Said], wish: str, reason: str) -> None:
    said = bench("a.npy", f"a.npy@linear,{wish}", *QUICK, "--memory-limit-mb", "256")
    assert said.code == 1
    assert reason in said.out
    assert "Traceback" not in said.err
    assert "images/s" in said.out


def test_when_nothing_could_be_measured_that_is_all_that_is_said(bench: Callable[..., Said]) -> None:
    Path("b.npy").write_bytes(b"PK\3\4 no network")
    said = bench("b.npy", *QUICK)
    assert said.code == 1
    assert said.out.startswith("- b.npy was not measured: ")
    assert len(said.out.splitlines()) == 1


def test_everything_wrong_with_the_command_line_is_told_at_once(
    bench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    Path("b.bin").touch()
    said = bench(
        "missing.onnx", "b.bin", "a.npy@lineer", "a.npy@linear,sleep=3", "a.npy@linear,sleep_ms", ".", "a.npy@"
    )
    assert said.code == 2
    assert said.err.splitlines() == [
        "pqd: missing.onnx: there is no such file; give a deployed file, such as model.onnx",
        "pqd: b.bin: no installed runtime opens '.bin' files; known: .npy, .onnx, .pt2, .xml; or write b.bin@RUNTIME",
        "pqd: a.npy@lineer: unknown runtime 'lineer'; did you mean linear?",
        "pqd: a.npy@linear,sleep=3: sleep: unknown key; did you mean sleep_ms?",
        "pqd: a.npy@linear,sleep_ms: 'sleep_ms' is no KEY=VALUE; write FILE@RUNTIME,KEY=VALUE",
        "pqd: .: is a folder; give a deployed file, such as model.onnx",
        "pqd: a.npy@: names no runtime after its @; write a.npy@RUNTIME, or a.npy alone",
    ]
    for arguments, reason in (
        (("--baseline", "b"), "'b' is none of the files; write one of a.npy"),
        (("--shape", "3x"), "'3x' is no shape of an image; write it as 3,224,224"),
        (("--shape", "3x\u00b2"), "is no shape of an image"),
        (("--seconds", "inf"), "--seconds: input should be a finite number"),
        (("--limit-s", "1e300", "--rounds", "1" + "0" * 400), "--limit-s: input should be less than or equal to 86400"),
        (("--memory-limit-mb", "1" + "0" * 30), "--memory-limit-mb: input should be less than or equal to 1000000000"),
        (("--threads", "99999"), "--threads: 99999 are too many for 2 CPUs; write 32 at most"),
        (("--out", "."), "--out .: is a folder; give another file"),
        (("--out", "a.npy"), "--out a.npy: is one of the files that are read; give another file"),
        (("--out", "a.npy/found.json"), "--out a.npy/found.json: cannot be written: "),
        (("--runtime", "x"), "--runtime: unknown runtime 'x'"),
        (("--images", "none.npz"), "no images can be read: No such file"),
    ):
        said = bench("a.npy", *arguments)
        assert (said.code, said.out) == (2, "")
        assert reason in said.err


def test_the_suffix_chooses_the_runtime_and_a_wish_or_a_preference_goes_before(bench: Callable[..., Said]) -> None:
    for name in ("n.onnx", "n.xml", "n.bin", "n.pt2", "odd@name.onnx"):
        Path(name).write_bytes(b"12")

    def runtimes(*arguments: str, runtime: str | None = None) -> list[str]:
        return [one.runtime.name for one in read_files(arguments, runtime)]

    assert runtimes("n.onnx", "n.xml", "n.pt2") == ["onnxruntime", "openvino", "torch"]
    assert runtimes("n.onnx@openvino", "n.onnx", "odd@name.onnx") == ["openvino", "onnxruntime", "onnxruntime"]
    assert runtimes("n.onnx", "n.pt2", runtime="openvino") == ["openvino", "torch"]
    [compiled] = read_files(["n.pt2@torch,mode=compiled"], None)
    assert compiled.settings.model_dump()["mode"] == "compiled"
    assert read_files(["n.xml"], None)[0].size_bytes == 4, "the .bin belongs to it"
    host = plugins.default_host()
    host.add("rival", RuntimeDef(name="other", summary="Opens too.", load="x", opens={".npy": ()}))
    with pytest.raises(DataError, match=r"several runtimes open such files; write a.npy@linear or a.npy@other"):
        read_files(["a.npy"], None)


def test_what_was_measured_is_shown_even_if_it_can_no_longer_be_written(
    bench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    said = bench("a.npy", *QUICK, "--out", "new/found.json")
    assert said.code == 2
    assert "images/s" in said.out
    assert "1 thread, 2 processes of each file" in said.out
    assert "--out new/found.json: cannot be written: No space left on device" in said.err
    assert not list(Path("new").iterdir())


def test_a_batch_that_would_fill_the_memory_loses_its_row_before_anything_is_made(bench: Callable[..., Said]) -> None:
    said = bench("a.npy", *QUICK, "--batch", "99999999")
    assert said.code == 1
    assert "a.npy was not measured: 99999999 images of 1x4x4 take 6,400 MB; give a smaller --batch" in said.out
    np.save("few.npy", np.zeros((2, 3, 32, 32), np.uint8))
    said = bench("a.npy", *QUICK, "--batch", "99999999", "--images", "few.npy")
    assert (said.code, said.out) == (2, "")
    assert "--batch: 99999999 images of 3x32x32 take 1,228,800 MB; give a smaller one" in said.err


def test_what_is_installed_can_be_asked_for_by_name(bench: Callable[..., Said]) -> None:
    assert installed("runtime").find("linear").plugin == "test"
    with pytest.raises(LookupError):
        installed("runtime").find("nothing")


# --- images


@pytest.mark.parametrize(
    ("takes", "asked", "given", "fits"),
    [
        ((None, 3, 8, 8), None, None, (3, 8, 8)),
        ((1, 3, 8, 8), None, None, (3, 8, 8)),
        ((None, 3, None, None), (3, 9, 9), None, (3, 9, 9)),
        ((None, 3, None, None), (3, 9, 9), (3, 4, 4), (3, 4, 4)),
        (None, (5,), None, (5,)),
    ],
)
def test_the_shape_of_the_images_comes_from_the_file_or_the_person(
    takes: Any, asked: Any, given: Any, fits: Any
) -> None:
    assert fitting_shape(takes, 1, asked, given) == fits


@pytest.mark.parametrize(
    ("takes", "asked", "given", "reason"),
    [
        (None, None, None, "does not tell what images it takes; give --shape"),
        ((None, 3, None, None), None, None, r"any size \(3x\?x\?\)"),
        ((8, 3, 4, 4), None, None, "8 images at a time; give --batch 8"),
        ((None, 3, 4, 4), (3, 5, 5), None, "images of 3x4x4, --shape says 3x5x5"),
        ((None, 3, 4, 4), None, (1, 4, 4), "images of 3x4x4, those of --images are 1x4x4"),
        ((None, 10), None, (1, 4, 4), "images of 10, those"),
    ],
)
def test_images_that_a_file_does_not_take_are_refused(takes: Any, asked: Any, given: Any, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        fitting_shape(takes, 1, asked, given)


def test_random_images_are_the_same_every_time() -> None:
    images = random_images((3, 8, 8), 64, seed=0)
    assert (images.shape, images.dtype) == ((64, 3, 8, 8), np.float32)
    assert images.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(images, random_images((3, 8, 8), 64, seed=0))


def test_images_of_bytes_are_normalized_and_brought_into_order(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
    np.savez(tmp_path / "data.npz", x_train=pixels[:2], x_test=pixels, y_test=np.arange(20))
    images = read_images(tmp_path / "data.npz", 64)
    assert (images.shape, images.dtype) == ((64, 3, 6, 5), np.float32)
    assert abs(images[:20].mean()) < 1e-5
    assert images[:20].std() == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(images[20:40], images[:20])


def test_float_images_are_taken_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(9, 3, 4, 4)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    np.testing.assert_array_equal(read_images(tmp_path / "images.npy", 8), images[:8])


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "."),
        (b"\x93NUMPY\x09\x00", "format"),
        (header("(100,)"), "none of images"),
        (header("(100, 8, 8)", "|O"), "none of images"),
        (header("(100, 8, 8)"), "ends too early"),
        (header("(100, 99999999, 9999999)"), "take .* bytes"),
        (header("(0, 8, 8)"), "take 0 bytes"),
        (header("__import__('os').getpid()"), "."),
    ],
)
def test_a_file_of_images_that_lies_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "data.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x_test.npy", content)
    for name in ("data.npy", "data.npz"):
        with pytest.raises(DataError, match=f"no images can be read: .*{reason}"):
            read_images(tmp_path / name, 64)


def test_of_a_bomb_no_more_is_read_than_the_images_that_are_needed(tmp_path: Path) -> None:
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as stream:
        stream.write(header("(1000000, 100, 100)"))
        for _ in range(64):
            stream.write(bytes(2**20))
    (tmp_path / "data.npz").write_bytes(bomb.getvalue())
    assert read_images(tmp_path / "data.npz", 64).nbytes == 64 * 100 * 100 * 4


def test_an_archive_without_images_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", weights=np.ones(3), labels=np.ones(3))
    with pytest.raises(DataError, match="it holds weights, labels; call the images x_test"):
        read_images(tmp_path / "data.npz", 8)
