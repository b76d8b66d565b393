"""Do two measurements of the same comparison agree? ResNet-20 in INT8 against float, again and again.

    python benchmarks/repeat.py --data local/cifar10.npz [--repetitions 12]

Untrained weights are enough: what is compared is time. For each pair of consecutive measurements it is seen whether
the ratio's interval of the second holds the first's median. Beside it stands the plain bootstrap interval of the same
numbers, which is the interval of the median, not of another measurement's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from evidence import write_result

from pqd_core import Spec, installed, run
from pqd_measure import LatencySettings
from pqd_measure.bench_images import read_images
from pqd_measure.cores import usable_cpus
from pqd_measure.estimates import Floats, paired_ratio
from pqd_measure.side_by_side import Subject, time_side_by_side

RUNTIMES = ("onnxruntime", "openvino")
PROTOCOL = LatencySettings(processes=10, rounds=30, seconds=3)
"""What `pqd bench` does if nothing else is asked for."""


@frozen
class Once:
    """One measurement's ratio of INT8 to float, and its intervals."""

    ratio: float
    interval: tuple[float, float]
    plain_interval: tuple[float, float]
    latency_ms: dict[str, float]

    def told(self) -> dict[str, Any]:
        """As it is written down."""
        low, high = self.interval
        half = (high - low) / 2 / self.ratio
        return {
            "ratio": self.ratio,
            "interval": self.interval,
            "half_width": half,
            "plain_interval": self.plain_interval,
            **{f"{form}_ms": value for form, value in self.latency_ms.items()},
        }


def exported(data: Path, folder: Path) -> dict[tuple[str, str], Path]:
    """ResNet-20 in float and INT8 for both runtimes, by runtime and form."""
    spec = Spec.model_validate(
        {
            "backbone": "resnet20",
            "dataset": {"use": "npz", "path": str(data), "limit": 512, "limit_test": 256},
            "validation": 0,
            "baseline": {"epochs": 0},
            "stages": [{"use": "int8-qat", "epochs": 0}],
            "runtimes": list(RUNTIMES),
            "measure": ["size"],
            "max_disagreement": 1,
        }
    )
    report = run(spec, folder)
    return {(row.runtime, "int8" if row.pipeline else "float"): folder / row.file for row in report.rows}


def measure(files: dict[tuple[str, str], Path], images: Path, threads: int, seed: int) -> dict[str, Once]:
    """All files side by side once, with fresh processes."""
    subjects = {}
    for (runtime, form), file in files.items():
        record = installed("runtime").find(runtime).record
        subjects[runtime, form] = Subject(file, record.load, record.settings(), images)
    settings = PROTOCOL.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as scratch:
        timed = time_side_by_side(subjects, settings, threads, Path(scratch))
    if failed := [f"{key}: {one.failure}" for key, one in timed.items() if one.failure]:
        raise SystemExit("\n".join(failed))
    return {runtime: _once(timed[runtime, "int8"].times_ms, timed[runtime, "float"].times_ms) for runtime in RUNTIMES}


def _once(int8_ms: Floats, float_ms: Floats) -> Once:
    found = paired_ratio(int8_ms, float_ms, seed=0)
    ratios = np.median(int8_ms, axis=2) / np.median(float_ms, axis=2)
    chosen = np.random.default_rng(0).integers(0, len(ratios), (1000, len(ratios)))
    plain = np.percentile(np.median(ratios[chosen].reshape(1000, -1), axis=1), [2.5, 97.5])
    medians = {"int8": float(np.median(int8_ms)), "float": float(np.median(float_ms))}
    return Once(found.value, (found.low, found.high), (float(plain[0]), float(plain[1])), medians)


def agreement(found: list[Once]) -> dict[str, Any]:
    """How often the interval of a measurement holds the median of the one before, and of any other."""
    inside = [later.interval[0] <= earlier.ratio <= later.interval[1] for earlier, later in pairwise(found)]
    plain = [later.plain_interval[0] <= earlier.ratio <= later.plain_interval[1] for earlier, later in pairwise(found)]
    others = [one.interval[0] <= other.ratio <= one.interval[1] for one in found for other in found if one is not other]
    return {
        "consecutive_pairs": len(inside),
        "inside": sum(inside),
        "inside_plain": sum(plain),
        "all_pairs": len(others),
        "all_inside": sum(others),
        "median_half_width": float(np.median([one.told()["half_width"] for one in found])),
        "measurements": [one.told() for one in found],
    }


def main() -> None:
    """Measure again and again, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("local/cifar10.npz"))
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--threads", type=int, default=len(usable_cpus()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = exported(options.data, Path(scratch) / "run")
        images = Path(scratch) / "images.npy"
        np.save(images, read_images(options.data, 64))
        began, found = time.perf_counter(), []
        for seed in range(options.repetitions):
            found.append(measure(files, images, options.threads, seed * PROTOCOL.processes))
            print({runtime: (round(once.ratio, 4), once.interval) for runtime, once in found[-1].items()}, flush=True)
    numbers = {
        "settings": PROTOCOL.model_dump(mode="json"),
        "seconds_each": (time.perf_counter() - began) / options.repetitions,
        **{runtime: agreement([one[runtime] for one in found]) for runtime in RUNTIMES},
    }
    write_result("repeat", numbers, threads=options.threads, seeds=list(range(options.repetitions)))


if __name__ == "__main__":
    main()
