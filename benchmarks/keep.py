"""Keep a run's report as a result: `report.json`, `report.md` with the command, `results.csv` and the plot.

    python benchmarks/keep.py RUN NAME "pqd run quickstart"

Needs the dependency group `bench` for the plot.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from evidence import RESULTS
from plot import draw

from pqd_core.report import read_report


def keep(run: Path, name: str, command: str) -> Path:
    """`results/NAME/` holds what `command` found out."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("report.json", "results.csv"):
        shutil.copyfile(run / file, folder / file)
    page = (run / "report.md").read_text(encoding="utf-8")
    (folder / "report.md").write_text(f"{page}- Command: `{command}`\n", encoding="utf-8")
    report = read_report(run)
    if any(row.value("accuracy") is not None and row.value("latency_ms") is not None for row in report.rows):
        draw(report).save(str(folder / "plot.svg"))
    return folder


def main() -> None:
    """Copy one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("command")
    options = parser.parse_args()
    print(f"wrote {keep(options.run, options.name, options.command)}")


if __name__ == "__main__":
    main()
