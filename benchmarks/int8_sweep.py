"""One of each of torchvision's families through magnitude -> int8-qat -> logit-kd -> both runtimes: what works.

    python benchmarks/int8_sweep.py [MODEL ...]     runs these (all if none is named) and adds them to the result
    python benchmarks/int8_sweep.py --table         prints the result as the table of docs/int8.md

The work is that of `benchmarks/sweep.py`, which the test of the sweep does too: small images, few training
steps. The times are those of a whole passage, for orientation; other work may have run beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from attrs import asdict
from evidence import RESULTS, write_result

from benchmarks.sweep import FAMILIES, Family, sweep

NAME = "int8_sweep"
HEAD = "| family | model | images | INT8 layers | INT8 itself | last bits | ONNX Runtime | OpenVINO | seconds |"


def table(numbers: dict[str, Any]) -> str:
    """The rows of docs/int8.md."""
    rows = [HEAD, "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for family in (family for family in FAMILIES if family.model in numbers):
        found = numbers[family.model]
        cells = [family.name, f"`{family.model}`", f"{family.size} px", f"{found['int8_layers']} of {found['layers']}"]
        beside = [found["rounding"], found["jitter"], *found["agreement"].values()]
        cells += [f"{a['rms']:.{2 if a['rms'] < 10 else 0}f}, {a['near']:.0%}, {a['changed']:.0%}" for a in beside]
        rows.append("| " + " | ".join([*cells, f"{found['seconds']:.0f}"]) + " |")
    return "\n".join(rows)


def kept() -> dict[str, Any]:
    """What has been measured before."""
    file = RESULTS / f"{NAME}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["numbers"]) if file.exists() else {}


def run(family: Family) -> dict[str, Any]:
    """One family's row."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = sweep(family, Path(folder))
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "size": family.size, **asdict(outcome)}


def main() -> None:
    """Run the families that are named, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.table:
        print(table(kept()))
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    for family in FAMILIES:
        if not options.models or family.model in options.models:
            numbers = kept() | {family.model: run(family)}
            write_result(NAME, numbers, threads=options.threads, seeds=[0])


if __name__ == "__main__":
    main()
