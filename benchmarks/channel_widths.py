"""Which widths are fast? ResNet-18 with half of its multiply-adds, in multiples of 8, 16 and 32, deployed in INT8.

    python benchmarks/channel_widths.py make FOLDER --data local/cifar10.npz
    python benchmarks/channel_widths.py time FOLDER --data local/cifar10.npz

Untrained weights are enough: what is compared is time. Making takes minutes and may share the machine, timing may not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evidence import write_result

from pqd_core import PqdError, Spec, run

WIDTHS = (0.25, 0.5, 1.0)
MULTIPLES = (8, 16, 32)
RUNTIMES = ("onnxruntime", "openvino")
THREADS = (1, 2)


def make(folder: Path, data: Path) -> None:
    """The INT8 file of each variant in each runtime lies under `folder`, and what each is in `files.json`."""
    variants = [
        variant
        for width in WIDTHS
        for multiple in (None, *MULTIPLES)
        for variant in _made(width, multiple, folder, data)
    ]
    (folder / "files.json").write_text(json.dumps(variants, indent=1), encoding="utf-8")


def _made(width: float, multiple: int | None, folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """The variant's files; none if so few multiply-adds cannot be reached in such multiples."""
    narrow = {"use": "channel", "macs": 0.5, "multiple": multiple, "min_width": multiple, "epochs": 0}
    spec = Spec.model_validate(
        {
            "backbone": {"use": "resnet18-cifar", "width": width},
            "dataset": {"use": "npz", "path": data, "limit": 256, "limit_test": 64},
            "validation": 0,
            "baseline": {"epochs": 0},
            "stages": [*([narrow] if multiple else []), "int8-ptq"],
            "runtimes": RUNTIMES,
            "measure": ["macs"],
            "max_disagreement": 1,
        }
    )
    try:
        report = run(spec, folder / f"{width}-{multiple or 'whole'}", store=folder / "store")
    except PqdError as error:
        print(error)
        return
    for row in report.rows:
        if row.pipeline[-1:] == ("int8-ptq",):
            known = {"width": width, "multiple": multiple, "runtime": row.runtime}
            yield {**known, "macs": row.value("macs"), "file": str(report.folder / row.file)}


def measure(folder: Path, data: Path) -> None:
    """`results/channel_widths.json` says how long each variant takes beside the whole network of its width."""
    variants, numbers = json.loads((folder / "files.json").read_text(encoding="utf-8")), []
    for threads in THREADS:
        for width in WIDTHS:
            for runtime in RUNTIMES:
                group = [v for v in variants if (v["width"], v["runtime"]) == (width, runtime)]
                timed = _timed([v["file"] for v in group], threads, data)
                for variant, found in zip(group, timed, strict=True):
                    share = variant["macs"] / group[0]["macs"]
                    about = {key: variant[key] for key in ("width", "multiple", "runtime")}
                    numbers.append({**about, "threads": threads, "macs_left": round(share, 4), **found})
    write_result("channel_widths", {"variants": numbers}, threads=max(THREADS), seeds=[0])


def _timed(files: list[str], threads: int, data: Path) -> list[dict[str, Any]]:
    how = ["--threads", str(threads), "--images", str(data), "--processes", "4", "--rounds", "12", "--seconds", "1"]
    told = subprocess.run(["pqd", "bench", *files, *how, "--json"], check=True, capture_output=True, text=True).stdout
    metrics = [file["metrics"] for file in json.loads(told)["files"]]
    return [{name: _short(found.get(name)) for name in ("latency_ms", "latency_ratio")} for found in metrics]


def _short(found: dict[str, Any] | None) -> dict[str, Any] | None:
    return found and {key: found[key] for key in ("value", "interval") if key in found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "time"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    (make if asked.what == "make" else measure)(asked.folder, asked.data)
