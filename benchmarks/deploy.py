"""INT8 files of pqd against those of other libraries, and against float, side by side.

    python benchmarks/deploy.py make resnet18-cifar [vgg16-bn wrn-28-10]
    python benchmarks/deploy.py kernels resnet18-cifar [vgg16-bn wrn-28-10]
    python benchmarks/deploy.py tell-kernels
    python benchmarks/deploy.py time resnet18-cifar --batch 1

`make` writes each candidate's file below `local/deploy/`; it needs the dependency group `bench`, and a C++ compiler
for what Inductor compiles. `kernels` adds the files whose kernels are timed, `tell-kernels` keeps which.
`time` times all in interleaved rounds, each in processes of its own, and writes `results/deploy/`, from which
`deploy_table.py` makes a page. Networks have full width and untrained weights: speed does not depend on what was
learned, and nothing is said about accuracy.

Every candidate is opened with the options that pqd's runtimes choose, the peers too: what is compared is files.
"Kernels timed" is a file that was made with `kernels_for_batch`, for the batch of the table. pqd's timing works on
NNCF's file too; that row says what it does there, and counts as nobody's.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import write_result
from networks import INFO, calibrated, make_network, random_images
from peers import ONNX_STATIC, quantize_nncf, quantize_pt2e, quantize_static
from torch import nn

from pqd_measure import LatencySettings
from pqd_measure.estimates import latency, paired_ratio
from pqd_measure.side_by_side import Subject, Timed, time_side_by_side
from pqd_runtimes import RUNTIMES, OpenVinoSettings
from pqd_runtimes.openvino_kernels import choose_kernels, preferred
from pqd_runtimes.openvino_runtime import session_options

LOCAL = Path(__file__).parent.parent / "local" / "deploy"
BACKBONES = ("resnet18-cifar", "vgg16-bn", "wrn-28-10")
THREADS, CALIBRATION = 2, 64
RECORDS = {record.name: record for record in RUNTIMES}
BATCHES = (1, 32)
"""What kernels are timed for."""
OURS = ("pqd on onnxruntime", "pqd on openvino", "pqd on openvino, kernels timed")
MIXED = "nncf on openvino, kernels timed by pqd"
CANDIDATES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # label: runtime, file, settings
    OURS[0]: ("onnxruntime", "pqd/onnxruntime/model.onnx", {}),
    OURS[1]: ("openvino", "pqd/openvino/model.xml", {}),
    OURS[2]: ("openvino", "pqd-{batch}/openvino/model.xml", {}),
    **{label: ("onnxruntime", f"{label}.onnx", {}) for label in ONNX_STATIC},
    "nncf on openvino": ("openvino", "nncf.xml", {}),
    MIXED: ("openvino", "nncf-{batch}.xml", {}),
    "pt2e with inductor": ("torch", "pt2e/torch/model.pt2", {"mode": "compiled"}),
    "float on onnxruntime": ("onnxruntime", "float/onnxruntime/model.onnx", {}),
    "float on openvino": ("openvino", "float/openvino/model.xml", {}),
    "float on torch, eager": ("torch", "float/torch/model.pt2", {"mode": "eager"}),
    "float on torch, compiled": ("torch", "float/torch/model.pt2", {"mode": "compiled"}),
}
EXAMPLE = torch.zeros(2, 3, 32, 32)


def make(backbone: str) -> None:
    """Every candidate's file, below `local/deploy/BACKBONE/`."""
    folder = LOCAL / backbone
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model, data = make_network(backbone), random_images(CALIBRATION)
    images = (data.train.images.astype(np.float32) / 255 - 0.5) / 0.25  # type: ignore[attr-defined]
    np.save(folder / "images.npy", images)
    _export(model, folder / "float", ("onnxruntime", "openvino", "torch"))
    float_file = folder / "float/onnxruntime/model.onnx"
    for label in ONNX_STATIC:
        quantize_static(float_file, folder / f"{label}.onnx", images, label)
    quantize_nncf(float_file, folder / "nncf.xml", images)
    _export(quantize_pt2e(model, images), folder / "pt2e", ("torch",))
    prepared, freeze = calibrated(model, data, calibration_images=CALIBRATION)
    _export(freeze(prepared), folder / "pqd", ("onnxruntime", "openvino"))


def time_kernels(backbone: str) -> None:
    """The files again, with kernels that were timed for each batch; on a quiet machine, as all timing."""
    folder = LOCAL / backbone
    torch.set_num_threads(THREADS)
    for batch in BATCHES:
        settings = {"openvino": {"kernels_for_batch": batch}}
        shutil.rmtree(folder / f"pqd-{batch}", ignore_errors=True)
        shutil.copytree(folder / "pqd/shared", folder / f"pqd-{batch}/shared")
        _export(nn.Identity(), folder / f"pqd-{batch}", settings, settings)  # what is in `shared` is taken from there
        for suffix in (".xml", ".bin"):
            shutil.copy(folder / f"nncf{suffix}", folder / f"nncf-{batch}{suffix}")
        images = np.resize(np.load(folder / "images.npy"), (batch, *INFO.shape))
        options = session_options(THREADS, OpenVinoSettings())
        choose_kernels(folder / f"nncf-{batch}.xml", images, options)


def tell_kernels() -> None:
    """Which convolutions got the direct kernel, by backbone, file and batch: `results/deploy/kernels-timed.json`."""
    files = {"pqd": "pqd-{batch}/openvino/model.xml", "nncf": "nncf-{batch}.xml"}
    chosen = {
        f"{backbone}, {name}, batch {batch}": sorted(preferred(LOCAL / backbone / file.format(batch=batch)))
        for backbone in BACKBONES
        for name, file in files.items()
        for batch in BATCHES
    }
    write_result("deploy/kernels-timed", chosen, threads=THREADS, seeds=[0])


def _export(
    model: nn.Module, folder: Path, runtimes: Iterable[str], settings: Mapping[str, dict[str, Any]] = {}
) -> None:
    shared = folder / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    for name in runtimes:
        (folder / name).mkdir()
        record = RECORDS[name]
        chosen = record.settings(**settings.get(name, {}))
        record.implementation().export(model, EXAMPLE, folder / name, shared, chosen)


def time_all(backbone: str, settings: LatencySettings, leave_out: Sequence[str] = ()) -> None:
    """All candidates in the same rounds, and how ours compare with the best of the others."""
    folder = LOCAL / backbone
    subjects = {
        label: Subject(
            folder / file.format(batch=settings.batch),
            str(RECORDS[runtime].load),
            RECORDS[runtime].settings(**chosen),
            folder / "images.npy",
        )
        for label, (runtime, file, chosen) in CANDIDATES.items()
        if not any(fnmatch(label, glob) for glob in leave_out)
    }
    with tempfile.TemporaryDirectory() as scratch:
        timed = time_side_by_side(subjects, settings, THREADS, Path(scratch), progress=print)
    standing = {label: one for label, one in timed.items() if one.failure is None}
    peers = {label: one for label, one in standing.items() if label not in (*OURS, MIXED)}
    best = min(peers, key=lambda label: float(np.median(peers[label].times_ms)))
    rows = {label: _row(one, peers[best], settings.seed) for label, one in timed.items()}
    for label, row in rows.items():
        print(f"{label:28}", row.get("failure") or f"{row['latency_ms']:9.3f} ms {row['ratio_to_best_peer']:.3f}")
    numbers = {
        "backbone": backbone,
        "batch": settings.batch,
        "best_peer": best,
        "nncf": version("nncf"),
        "candidates": rows,
        "settings": settings.model_dump(),
    }
    write_result(f"deploy/{backbone}-batch-{settings.batch}", numbers, threads=THREADS, seeds=[settings.seed])


def _row(timed: Timed, best: Timed, seed: int) -> dict[str, Any]:
    if timed.failure is not None:
        return {"failure": timed.failure}
    time_ms, ratio = latency(timed.times_ms, seed), paired_ratio(timed.times_ms, best.times_ms, seed)
    return {
        "latency_ms": time_ms.value,
        "interval_ms": [time_ms.low, time_ms.high],
        "ratio_to_best_peer": ratio.value,
        "ratio_interval": [ratio.low, ratio.high],
        "processes_median_ms": [float(np.median(times)) for times in timed.times_ms],
        "timed": int(timed.times_ms.size),
        "steady": [visit.warm["steady"] for visit in timed.visits],
    }


def main() -> None:
    """Make, or time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("make", "kernels"):
        commands.add_parser(name).add_argument("backbones", nargs="+", choices=BACKBONES)
    commands.add_parser("tell-kernels")
    timing = commands.add_parser("time")
    timing.add_argument("backbone", choices=BACKBONES)
    timing.add_argument("--batch", type=int, default=1)
    timing.add_argument("--seconds", type=float, default=6)
    timing.add_argument("--processes", type=int, default=3)
    timing.add_argument("--rounds", type=int, default=15)
    timing.add_argument("--warmup_s", type=float, default=1)
    timing.add_argument("--leave-out", nargs="*", default=[], help="globs over candidates that are not timed")
    options = parser.parse_args()
    if options.command in ("make", "kernels"):
        for backbone in options.backbones:
            (make if options.command == "make" else time_kernels)(backbone)
    elif options.command == "tell-kernels":
        tell_kernels()
    else:
        names = ("batch", "seconds", "processes", "rounds", "warmup_s")
        chosen = {name: getattr(options, name) for name in names}
        time_all(options.backbone, LatencySettings(**chosen), options.leave_out)


if __name__ == "__main__":
    main()
