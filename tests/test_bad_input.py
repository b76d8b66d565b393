"""Every way in which a request, its data or the machine can be bad: a message to act on, the right exit code, and
nothing half-written taken for finished.

The tests may run as root, whom no permission stops. What cannot be written is therefore a file in place of a folder, or
a read-only file system; a full disk is a small file system of its own, or a real limit on the size of files.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import light
import numpy as np
import pytest
import torch
from bench import Bench, light_spec
from light import stage_record
from PIL import Image
from processes import Process
from safetensors.torch import load_file, save_file

import pqd_prune
import pqd_vision
from pqd_core import PqdError
from pqd_core.artifact import Shelf, Store
from pqd_core.plan import build_plan
from pqd_core.testing import toy_host
from pqd_core.testing.toys import ToyNet

Start = Callable[..., Process]
USAGE = 2


@pytest.fixture
def vision(tmp_path: Path) -> Bench:
    """A bench on which the bundled datasets, networks and pruning are installed beside the toys."""
    return Bench(toy_host(light, pqd_vision, pqd_prune), tmp_path)


def refused(bench: Bench, exit_code: int = USAGE, **changes: Any) -> str:
    """What a person reads who asks for this; the run ends with `exit_code`."""
    with pytest.raises(PqdError) as error:
        bench.run(bench.spec(**changes))
    assert error.value.exit_code == exit_code
    return str(error.value)


# --- a request that is wrong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": []}, "stage: unknown key; did you mean stages"),
        ({"stages": ["magnitudes"]}, "stages.0: unknown stage 'magnitudes'; did you mean magnitude?"),
        ({"dataset": "digit"}, "dataset: unknown dataset 'digit'; did you mean digits?"),
        ({"backbone": "resnet-18"}, "backbone: unknown backbone 'resnet-18'; did you mean resnet"),
        ({"stages": ["pruner:magnitude"]}, "stages.0: unknown stage 'pruner:magnitude'; did you mean magnitude"),
        ({"runtimes": ["tensorrt"]}, "runtimes.0: unknown runtime 'tensorrt'"),
        ({"measure": ["speed"]}, "measure.0: unknown measurer 'speed'"),
        ({"stages": [{"use": "magnitude", "sparsity": 1.5}]}, "stages.0.magnitude.sparsity: .* less than 1"),
        ({"stages": [{"use": "magnitude", "sparsity": "most"}]}, "stages.0.magnitude.sparsity: .* valid number"),
        ({"stages": [{"use": "magnitude", "sparcity": 0.5}]}, "magnitude.sparcity: unknown key; did you mean sparsity"),
        ({"stages": [{"use": "magnitude", "epochs": -1}]}, "magnitude.epochs: .* greater than or equal to 0"),
        ({"stages": [{"use": "magnitude", "begin": 0.9}]}, "begin .0.9. must be less than end"),
        ({"budget": {"epochs": -1}}, "budget.epochs: .* greater than or equal to 0"),
        ({"baseline": {"epochs": -1}}, "baseline.epochs: .* greater than or equal to 0"),
        ({"baseline": {"epochs": 1.5}}, "baseline.epochs: .* integer"),
        ({"baseline": {"optimizer": "adam"}}, "baseline.optimizer: .*'sgd' or 'adamw'"),
        ({"dataset": {"use": "npz"}}, "dataset.npz.path: field required"),
        (
            {"dataset": {"use": "npz", "path": "no.npz"}},
            "npz.path: path does not point to a file: no.npz, looked for in /",
        ),
        ({"dataset": {"use": "npz", "path": None}}, "dataset.npz.path: expected the path of a file or folder"),
        ({"baseline": {"checkpoint": "/no.pt"}}, "baseline.checkpoint: path does not point to a file: /no.pt$"),
        ({"stages": {"use": "magnitude"}}, r"stages: expected a list; write \[{'use': 'magnitude'}\]"),
        ({"stages": 13 * ["magnitude"]}, "stages: list should have at most 12 items, not 13"),
        (
            {"backbone": {"use": "python", "target": "net"}},
            "'net' names no callable; write module:callable or path/to/f",
        ),
        ({"device": "cuda"}, "device: no CUDA device is here; write 'auto' or 'cpu'"),
    ],
)
def test_a_wrong_request_is_refused_at_its_place(vision: Bench, changes: dict[str, Any], message: str) -> None:
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("here is a CUDA device")
    assert re.search(message, refused(vision, **changes))


def test_an_illegal_order_names_step_fact_ender_and_the_nearest_legal_order(bench: Bench) -> None:
    bench.host.add("given", stage_record("trace", ends=("plain-modules",)))
    bench.host.add("given", stage_record("cut", needs=("plain-modules",)))
    assert refused(bench, stages=["trace", "cut"]) == (
        "stages.1.cut: step 2, cut, needs a model that is plain-modules, which step 1, trace, ended; "
        "the nearest legal order is cut -> trace; 'study: auto' takes it"
    )


# --- a checkpoint


class Boom:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def torch_bytes(thing: Any, tmp_path: Path) -> bytes:
    torch.save(thing, tmp_path / "scratch.pt")
    return (tmp_path / "scratch.pt").read_bytes()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_truncated_checkpoint_is_refused(bench: Bench, name: str, keep: float) -> None:
    file = bench.folder / name
    save = save_file if name.endswith("safetensors") else torch.save
    save(ToyNet(1, 3).state_dict(), file)
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    told = refused(bench, baseline={"checkpoint": str(file)})
    assert told.startswith(f"{file}: is no readable checkpoint")
    assert "save it as safetensors" in told


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    for number, data in enumerate(
        [pickle.dumps(Boom(), protocol=2), torch_bytes({"conv.weight": Boom()}, bench.folder)]
    ):
        file = bench.folder / f"{number}.pt"
        file.write_bytes(data)
        assert "is no readable checkpoint" in refused(bench, baseline={"checkpoint": str(file)})
    assert not (bench.folder / "executed").exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([torch.zeros(3)], "is no state dict"),
        ({"conv.weight": 3}, "is no state dict"),
        (torch.zeros(3), "is no state dict"),
        ({}, "has no conv.weight"),
        ({**ToyNet(1, 3).state_dict(), "head.wieght": torch.zeros(1)}, "has head.wieght, which the network has not"),
        (ToyNet(3, 3).state_dict(), r"conv.weight is \(8, 3, 3, 3\), the network's is \(8, 1, 3, 3\)"),
        (ToyNet(1, 10).state_dict(), r"head.bias is \(10,\), the network's is \(3,\)"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_with_the_differences(
    bench: Bench, state: Any, message: str
) -> None:
    torch.save(state, bench.folder / "w.pt")
    assert re.search(message, refused(bench, baseline={"checkpoint": str(bench.folder / "w.pt")}))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
def test_a_good_checkpoint_is_taken_in_all_its_forms(bench: Bench, wrap: Callable[[Any], Any]) -> None:
    torch.manual_seed(5)
    state = ToyNet(1, 3).state_dict()
    torch.save(wrap({f"module.{name}": value for name, value in state.items()}), bench.folder / "w.pt")
    report = bench.run(bench.spec(stages=[], baseline={"checkpoint": str(bench.folder / "w.pt")}))
    deployed = load_file(bench.folder / "out" / report.rows[0].file)
    assert all(torch.equal(deployed[name], state[name]) for name in state)


# --- data


def save_npz(bench: Bench, **changes: Any) -> dict[str, Any]:
    arrays = {
        "x_train": np.zeros((12, 8, 8), np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": np.zeros((6, 8, 8), np.uint8),
        "y_test": np.arange(6) % 3,
        **changes,
    }
    file = bench.folder / "data.npz"
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return {"use": "npz", "path": str(file)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((12, 8), np.uint8)}, r"x_train: has shape \(12, 8\)"),
        ({"x_train": np.zeros((12, 5, 8, 8), np.uint8)}, "x_train: .*1 or 3 channels"),
        ({"x_test": np.zeros((6, 9, 9), np.uint8)}, "x_test: has images of .*x_train of"),
        ({"y_train": np.arange(11) % 3}, "y_train: has 11 labels for 12 images"),
        ({"y_test": None}, "y_test: .* holds no array of that name"),
        ({"y_test": np.arange(6)}, "y_test: has the label 5, expected 0 to 2"),
        ({"y_train": np.arange(12) % 3 - 1}, "y_train: has the label -1"),
        ({"y_train": np.zeros(12)}, "y_train: has type float64"),
        ({"x_train": np.zeros((0, 8, 8), np.uint8), "y_train": np.arange(0)}, "x_train: .*holds no image"),
        ({"x_train": np.array([object()] * 12)}, "x_train"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(vision: Bench, changes: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(vision, dataset=save_npz(vision, **changes)))


def test_all_problems_of_a_dataset_are_told_at_once(vision: Bench) -> None:
    dataset = save_npz(vision, x_train=np.zeros((12, 8), np.uint8), y_test=np.zeros(6))
    told = refused(vision, dataset=dataset)
    assert "x_train" in told
    assert "y_test" in told


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_file_that_is_no_npz_is_refused(vision: Bench, content: bytes) -> None:
    (vision.folder / "data.npz").write_bytes(content)
    told = refused(vision, dataset={"use": "npz", "path": str(vision.folder / "data.npz")})
    assert "is no .npz file" in told


SMALL_NET = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, num_classes))
"""


def save_images(folder: Path, sizes: list[tuple[int, int]]) -> dict[str, Any]:
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for number, size in enumerate(sizes):
                Image.effect_noise(size, 99).convert("RGB").save(folder / part / label / f"{number}.png")
    return {"use": "image-folder", "root": str(folder)}


def test_a_dataset_folder_that_is_not_there_is_refused(vision: Bench) -> None:
    missing = vision.folder / "nowhere"
    for dataset in ("image-folder", "cifar10", "cifar100", "fashion-mnist"):
        told = refused(vision, dataset={"use": dataset, "root": str(missing)})
        assert f"dataset.{dataset}" in told
        assert str(missing) in told
    (missing / "train").mkdir(parents=True)
    assert "dataset.image-folder" in refused(vision, dataset={"use": "image-folder", "root": str(missing)})


def test_a_link_that_leads_nowhere_in_a_dataset_is_named(vision: Bench) -> None:
    dataset = save_images(vision.folder / "images", [(8, 8)])
    (vision.folder / "images" / "train" / "cat" / "lost.png").symlink_to(vision.folder / "nowhere.png")
    told = refused(vision, dataset=dataset)
    assert "lost.png" in told


def test_images_of_several_sizes_are_refused_with_two_of_them_and_what_to_do(vision: Bench) -> None:
    told = refused(vision, dataset=save_images(vision.folder / "images", [(8, 8), (9, 8)]))
    assert re.search(r"dataset.image-folder.size: .*0\.png is 8x8 pixels, .*1\.png is 9x8; set size: ", told)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(vision: Bench, workers: int) -> None:
    dataset = save_images(vision.folder / "images", [(8, 8), (8, 8)])
    broken = vision.folder / "images" / "train" / "cat" / "1.png"
    broken.write_bytes(broken.read_bytes()[:120])
    (vision.folder / "mine.py").write_text(SMALL_NET)
    mine = {"use": "python", "target": f"{vision.folder / 'mine.py'}:net"}
    training = {"epochs": 1, "batch_size": 4, "workers": workers}
    told = refused(vision, dataset={**dataset, "size": 8}, backbone=mine, baseline=training, validation=0)
    assert str(broken) in told
    assert "Traceback" not in told


def test_a_limit_that_is_larger_than_the_dataset_is_refused(vision: Bench) -> None:
    told = refused(vision, dataset={**save_npz(vision), "limit": 13})
    assert "dataset.npz.limit" in told
    assert "12" in told


def test_a_dataset_plugin_that_raises_is_told_without_a_traceback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("pqd_core.testing.toys.ToyBlobs.open_data", staticmethod(fail))
    told = refused(bench)
    assert told.startswith("dataset.toy-blobs: cannot be opened (ConnectionError: no route to host)")
    assert any("no route" in str(line.get("exception")) for line in bench.log())


# --- a network of one's own


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def net():\n    raise ValueError('no licence')", "raised ValueError: no licence"),
        ("raise RuntimeError('not today')", "cannot be imported: RuntimeError: not today"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("import nothing_of_that_name\ndef net(): ...", "cannot be imported: ModuleNotFoundError"),
        ("def net(:", "cannot be imported: SyntaxError"),
        ("def not_net(): ...", "has no net"),
        ("net = 3", "is a int, not a callable"),
        ("def net():\n    return 3", "returned a int, expected a torch.nn.Module"),
        ("import torch\ndef net(): return torch.nn.Linear(5, 3)", "the network cannot take images"),
        ("import torch\ndef net(): return torch.nn.Flatten()", "expected logits"),
        ("def net(width): ...", "raised TypeError"),
    ],
)
def test_a_callable_of_ones_own_that_fails_is_told_with_its_error(vision: Bench, source: str, message: str) -> None:
    (vision.folder / "mine.py").write_text(source + "\n")
    told = refused(vision, backbone={"use": "python", "target": f"{vision.folder / 'mine.py'}:net"})
    assert "backbone.python.target" in told
    assert message in told


@pytest.mark.parametrize("target", ["nowhere.py:net", "no_such_module:net", "no_colon", ":net", "os.path:"])
def test_a_callable_that_is_not_there_is_refused(vision: Bench, target: str) -> None:
    assert "backbone.python" in refused(vision, backbone={"use": "python", "target": target})


def test_a_backbone_plugin_that_raises_is_told_with_its_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Any, info: Any) -> Any:
        raise KeyError("width")

    monkeypatch.setattr("pqd_core.testing.toys.ToyBackbone.build", staticmethod(fail))
    assert "backbone.toy-net: cannot be built (KeyError: 'width')" in refused(bench)


# --- processes


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A spec of four steps that together take about a second of sleep."""
    stages = [{"use": "nudge", "epochs": 3, "pause_s": 0.1, "by": by} for by in (0.1, 0.2, 0.3)]
    (tmp_path / "spec.json").write_text(json.dumps(light_spec(stages=stages)))
    return tmp_path / "spec.json"


@pytest.fixture
def quick_file(tmp_path: Path) -> Path:
    (tmp_path / "quick.json").write_text(json.dumps(light_spec(stages=["nudge", {"use": "nudge", "epochs": 1}])))
    return tmp_path / "quick.json"


def outcome(folder: Path) -> Any:
    """What a run found out, without what the clock says."""
    report = json.loads((folder / "report.json").read_text())
    rows = [
        {
            **row,
            "metrics": {
                name: {**m, "provenance": {**m["provenance"], "when": 0}} for name, m in row["metrics"].items()
            },
        }
        for row in report["rows"]
    ]
    steps = [
        {
            **{key: step[key] for key in ("key", "parent", "stage", "epochs")},
            "history": [{name: entry[name] for name in entry.keys() - {"seconds"}} for entry in step["history"]],
        }
        for step in report["steps"]
    ]
    return rows, steps, report["problems"], report["complete"]


def deployed_bytes(folder: Path) -> dict[str, bytes]:
    files = (folder / "deployed").rglob("*.safetensors")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_two_runs_on_one_store_at_the_same_moment_make_each_step_once(
    pqd: Start, spec_file: Path, tmp_path: Path
) -> None:
    both = [pqd("run", spec_file, "--out", name) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0], "\n".join(process.output for process in both)
    assert outcome(tmp_path / "a")[:2] == outcome(tmp_path / "b")[:2]
    reused = [[s["reused"] for s in json.loads((tmp_path / n / "report.json").read_text())["steps"]] for n in "ab"]
    assert [sum(pair) for pair in zip(*reused, strict=True)] == [1, 1, 1, 1]
    assert any("waiting for another pqd that works on the same step" in process.output for process in both)


def test_two_runs_into_one_folder_at_the_same_moment_take_turns(pqd: Start, spec_file: Path, tmp_path: Path) -> None:
    both = [pqd("run", spec_file, "--out", "same") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], "\n".join(process.output for process in both)
    assert sum("nothing was computed again" in process.output for process in both) == 1
    assert sum("waiting for another pqd that works on same" in process.output for process in both) == 1
    assert [json.loads(line) for line in (tmp_path / "same" / "log.jsonl").read_text().splitlines()]


def test_who_waits_for_a_run_that_is_killed_makes_what_it_left_undone(
    pqd: Start, spec_file: Path, tmp_path: Path
) -> None:
    first = pqd("run", spec_file, "--out", "a")
    wait_for(first, "step 2 of 4")
    second = pqd("run", spec_file, "--out", "b")
    wait_for(second, "waiting for another pqd")
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert second.wait() == 0, second.output
    reused = [step["reused"] for step in read(tmp_path / "b")["steps"]]
    assert reused[0], "the first run had made the baseline"
    assert not reused[-1], "but not everything"


def undisturbed(pqd: Start, spec: Path, tmp_path: Path, **request: Any) -> Process:
    alone = tmp_path / "alone"
    process = pqd("run", spec, "--out", alone, env={"PQD_STORE": str(alone / "store")}, **request)
    assert process.wait() == 0, process.output
    return process


def test_a_run_that_is_killed_at_any_change_of_the_disk_ends_as_if_it_had_not_been(
    pqd: Start, quick_file: Path, tmp_path: Path
) -> None:
    told = undisturbed(pqd, quick_file, tmp_path, die_at=0).output
    total = int(told.rpartition("changes: ")[2])
    assert total > 60
    rng = random.Random(0)
    width = total // 7
    moments = [rng.randrange(begin, begin + width) for begin in range(1, total - width, width)]
    for moment in moments:
        request = {"env": {"PQD_STORE": str(tmp_path / f"store-{moment}")}}
        killed = pqd("run", quick_file, "--out", f"out-{moment}", die_at=moment, **request)
        assert killed.wait() == -signal.SIGKILL
        finished = check_store(Store(tmp_path / f"store-{moment}"))
        again = pqd("run", quick_file, "--out", f"out-{moment}", **request)
        assert again.wait() == 0, (moment, again.output)
        assert outcome(tmp_path / f"out-{moment}") == outcome(tmp_path / "alone"), moment
        reused = [s["key"] for s in read(tmp_path / f"out-{moment}")["steps"] if s["reused"]]
        assert set(reused) == finished, "no finished work is lost"
        assert deployed_bytes(tmp_path / f"out-{moment}") == deployed_bytes(tmp_path / "alone")
        assert "damaged" not in again.output, "nothing half-written stood where finished work stands"


def read(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


SHELVES: tuple[Shelf, ...] = ("steps", "deployed", "measured")


def check_store(store: Store) -> set[str]:
    """Keys of the finished steps; whatever stands in the store's place for finished work is whole."""
    found = set()
    for shelf in SHELVES:
        for folder in (store.root / shelf).glob("*/*"):
            assert store.find(shelf, folder.name) is not None
            found |= {folder.name} if shelf == "steps" else set()
    return found


def test_a_run_that_is_killed_again_and_again_gets_to_its_end(pqd: Start, spec_file: Path, tmp_path: Path) -> None:
    undisturbed(pqd, spec_file, tmp_path)
    rng, kills, steps = random.Random(1), 0, 0
    for _ in range(4):
        process = pqd("run", spec_file, "--out", "out")
        time.sleep(rng.uniform(0.2, 1.0))
        process.send(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        before, steps = steps, len(check_store(Store(tmp_path / "store")))
        assert steps >= before
    assert kills > 0
    assert pqd("run", spec_file, "--out", "out").wait() == 0
    assert outcome(tmp_path / "out") == outcome(tmp_path / "alone")


@pytest.mark.parametrize("moment_s", [0.15, 0.6])
def test_ctrl_c_ends_with_a_sentence_and_loses_nothing(
    pqd: Start, spec_file: Path, tmp_path: Path, moment_s: float
) -> None:
    process = pqd("run", spec_file, "--out", "out")
    wait_for(process, "step 1 of 4")
    time.sleep(moment_s)
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert "pqd: interrupted; nothing that was finished is lost, run again to go on" in process.output
    assert "Traceback" not in process.output
    finished = check_store(Store(tmp_path / "store"))
    assert not (tmp_path / "out" / "report.json").exists()
    assert pqd("run", spec_file, "--out", "out").wait() == 0
    assert {s["key"] for s in read(tmp_path / "out")["steps"] if s["reused"]} == finished


def wait_for(process: Process, text: str) -> None:
    for _ in range(600):
        if text in process.output:
            return
        time.sleep(0.05)
    raise AssertionError(process.output)


# --- disks


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount a file system, and not everywhere")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=512k")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def bulky_file(tmp_path: Path) -> Path:
    (tmp_path / "bulky.json").write_text(json.dumps(light_spec(stages=["nudge", "bulky"])))
    return tmp_path / "bulky.json"


def test_a_full_disk_is_told_and_the_run_goes_on_where_room_was_made(
    pqd: Start, bulky_file: Path, small_disk: Path
) -> None:
    request = ("run", bulky_file, "--out", small_disk / "out", "--store", small_disk / "store")
    process = pqd(*request)
    assert process.wait() == 1
    assert "cannot be written: No space left on device; make room on this disk" in process.output
    assert "step 3 of 3, bulky: stopped here; running again goes on after nudge" in process.output
    assert "Traceback" not in process.output
    assert len(check_store(Store(small_disk / "store"))) == 2
    assert list((small_disk / "store" / "aside").iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    assert pqd(*request).wait() == 0
    assert [step["reused"] for step in read(small_disk / "out")["steps"]] == [True, True, False]


@pytest.mark.parametrize("room", [0, 4, 8, 12, 20])
def test_a_disk_that_is_full_anywhere_on_the_way_never_ends_in_a_traceback(
    pqd: Start, quick_file: Path, small_disk: Path, room: int
) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes((512 - 4 * room) * 1024))
    request = ("run", quick_file, "--out", small_disk / "out", "--store", small_disk / "store")
    process = pqd(*request)
    code = process.wait()
    assert "Traceback" not in process.output
    assert code in (1, 2), process.output
    assert "No space left on device" in process.output
    assert "make room on this disk" in process.output
    check_store(Store(small_disk / "store"))
    (small_disk / "ballast").unlink()
    assert pqd(*request).wait() == 0


def test_a_limit_on_the_size_of_files_is_told_as_what_it_is(pqd: Start, bulky_file: Path, tmp_path: Path) -> None:
    process = pqd("run", bulky_file, "--out", "out", file_limit=200_000)
    assert process.wait() == 1
    assert "cannot be written: File too large" in process.output
    assert "Traceback" not in process.output
    assert len(check_store(Store(tmp_path / "store"))) == 2
    assert pqd("run", bulky_file, "--out", "out").wait() == 0


def test_a_disk_that_may_only_be_read_is_told_before_any_work(pqd: Start, quick_file: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    mount(tmp_path / "disk", "ro,size=512k")
    try:
        for place in (("--out", "disk/out"), ("--out", "out", "--store", "disk/store")):
            process = pqd("run", quick_file, *place)
            assert process.wait() == USAGE
            assert "cannot be written: Read-only file system; choose another place with --out" in process.output
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "disk"], check=True)


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_a_file_in_place_of_a_folder_is_told_before_any_work(
    pqd: Start, quick_file: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    process = pqd("run", quick_file, "--out", "out", option, "taken")
    assert process.wait() == USAGE
    assert re.search("the (run folder|store) cannot be written: (File exists|Not a directory)", process.output)
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_plan_asks_nothing_of_the_store(bench: Bench) -> None:
    build_plan(bench.spec(), bench.host)
    assert not bench.store.exists()
