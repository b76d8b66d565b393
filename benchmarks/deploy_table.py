"""The tables of `results/deploy/` as one page.

    python benchmarks/deploy_table.py

Writes `results/deploy/table.md` from what `deploy.py time` left, with the evidence of each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evidence import RESULTS

FOLDER = RESULTS / "deploy"
HEAD = """# INT8 files side by side

Milliseconds of one call, median over all processes, with the interval in which another measurement finds its value
19 times in 20; and the ratio to the fastest candidate that is not pqd's, round by round. Below 1 is faster.
Untrained weights at full width: speed only. Every file was opened with the same options, on two threads.
"""


def read() -> list[dict[str, Any]]:
    """All results, backbone by backbone, small batches first."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*-batch-*.json")]
    return sorted(found, key=lambda one: (one["numbers"]["backbone"], one["numbers"]["batch"]))


def section(result: dict[str, Any]) -> str:
    """One backbone at one batch size."""
    numbers, machine = result["numbers"], result["environment"]
    rows = sorted(numbers["candidates"].items(), key=lambda row: row[1].get("latency_ms", float("inf")))
    lines = [_line(label, row, label == numbers["best_peer"]) for label, row in rows]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join(
        [
            f"## {numbers['backbone']}, batch {numbers['batch']}\n",
            "| candidate | ms | interval | ratio | interval |\n|---|--:|---|--:|---|",
            *lines,
            f"\n{machine['cpu']['model']}, {result['date']}; {versions}. `{result['command']}`\n",
        ]
    )


def _line(label: str, row: dict[str, Any], best: bool) -> str:
    name = f"**{label}**" if label.startswith("pqd") else f"{label} (best peer)" if best else label
    if "failure" in row:
        return f"| {name} | failed: {row['failure']} | | | |"
    low, high = (f"{end:.3g}" for end in row["interval_ms"])
    ratio = " to ".join(f"{end:.3f}" for end in row["ratio_interval"])
    return f"| {name} | {row['latency_ms']:.4g} | {low} to {high} | {row['ratio_to_best_peer']:.3f} | {ratio} |"


def main() -> None:
    """Write the page."""
    file: Path = FOLDER / "table.md"
    file.write_text("\n".join([HEAD, *map(section, read())]), encoding="utf-8")
    print(f"wrote {file}")


if __name__ == "__main__":
    main()
