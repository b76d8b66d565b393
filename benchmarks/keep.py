"""Keep a run's report as a result: `report.json`, `results.csv`, and the page and the Markdown with its plots.

    python benchmarks/keep.py RUN NAME "pqd run quickstart"

The page and the Markdown are written anew, by the pqd that is installed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from evidence import RESULTS

from pqd_core.host.plugins import default_host
from pqd_core.host.renderers import render_files
from pqd_core.report import read_report


def keep(run: Path, name: str, command: str) -> Path:
    """`results/NAME/` holds what `command` found out."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("report.json", "results.csv"):
        shutil.copyfile(run / file, folder / file)
    shutil.rmtree(folder / "plots", ignore_errors=True)
    if failed := render_files(read_report(run), folder, default_host().registry("renderer")):
        raise SystemExit("\n".join(failed))
    page = folder / "report.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}- Command: `{command}`\n", encoding="utf-8")
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
