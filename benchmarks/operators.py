"""Which operators ONNX Runtime runs of pqd's file, and which of the fastest peer's: `quantize_static`'s, u8s8.

    python benchmarks/operators.py            writes `results/operators.json`
    python benchmarks/operators.py --table    prints it as the table of docs/deployment.md

Reads what `deploy.py make` wrote. Counts and times are the runtime's own profile, taken in turns between the two files;
profiling costs time itself, so shares hold better than sums.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from deploy import BACKBONES, CANDIDATES, LOCAL, OURS, THREADS
from evidence import RESULTS, write_result

from pqd_runtimes import OnnxRuntimeSettings
from pqd_runtimes.onnx_execution import KERNEL
from pqd_runtimes.onnx_runtime import session_options

NAME, ROUNDS, CALLS = "operators", 20, 10
FILES = {"pqd": CANDIDATES[OURS[0]][1], "u8s8": CANDIDATES["ort-static-u8s8"][1]}
Kinds = dict[str, dict[str, float]]


class Profiled:
    """A file, opened as `pqd_runtimes` opens it, with a profile besides."""

    def __init__(self, file: Path, images: np.ndarray, folder: Path) -> None:
        options = session_options(THREADS, OnnxRuntimeSettings())
        options.enable_profiling, options.profile_file_prefix = True, str(folder / file.parent.name)
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.input = {self.session.get_inputs()[0].name: images}
        self.calls = 0

    def call(self, count: int) -> None:
        """Some inferences in a row."""
        for _ in range(count):
            self.session.run(None, self.input)
        self.calls += count

    def kinds(self) -> Kinds:
        """For each type of operator: how many run in one inference, and the sum of their median microseconds."""
        events = json.loads(Path(self.session.end_profiling()).read_text(encoding="utf-8"))
        times: dict[tuple[str, str], list[float]] = {}
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith(KERNEL):
                times.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"])
        assert all(len(each) == self.calls for each in times.values()), "every operator runs once in an inference"
        count, total = Counter(kind for kind, _ in times), Counter[str]()
        for (kind, _), each in times.items():
            total[kind] += float(np.median(each))
        return {kind: {"count": count[kind], "us": total[kind]} for kind in sorted(count)}


def compare(backbone: str) -> dict[str, Kinds]:
    """Both files' operators."""
    images = np.load(LOCAL / backbone / "images.npy")[:1]
    with tempfile.TemporaryDirectory() as folder:
        both = {label: Profiled(LOCAL / backbone / file, images, Path(folder)) for label, file in FILES.items()}
        for _ in range(ROUNDS):
            for profiled in both.values():
                profiled.call(CALLS)
        return {label: profiled.kinds() for label, profiled in both.items()}


def table(numbers: dict[str, Any]) -> str:
    """A row for each type of operator, two columns for each backbone."""
    files = numbers["files"].items()
    columns = {f"{backbone}, {label}": kinds for backbone, both in files for label, kinds in both.items()}
    kinds = sorted({kind for column in columns.values() for kind in column})
    sums = [{key: sum(one[key] for one in column.values()) for key in ("count", "us")} for column in columns.values()]
    return "\n".join(
        [
            f"| operators (us) | {' | '.join(columns)} |",
            "|---|" + "--:|" * len(columns),
            *(_row(kind, [column.get(kind) for column in columns.values()]) for kind in kinds),
            _row("all", sums),
        ]
    )


def _row(name: str, cells: Sequence[Mapping[str, float] | None]) -> str:
    return f"| {name} | " + " | ".join(f"{one['count']} ({one['us']:.0f})" if one else "" for one in cells) + " |"


def main() -> None:
    """Measure, or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true")
    if parser.parse_args().table:
        print(table(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))["numbers"]))
        return
    numbers = {"files": {backbone: compare(backbone) for backbone in BACKBONES}}
    print(table(numbers))
    write_result(NAME, numbers, threads=THREADS, seeds=[0])


if __name__ == "__main__":
    main()
