"""How deployed files pack, float and INT8, dense and pruned: pqd pack beside zlib, xz and zstd, on the same files.

    pqd run benchmarks/specs/small-resnet20.yaml --set study=subsets --out local/small-resnet20-all
    python benchmarks/pack_files.py local/small-resnet20-all

Several files of one deployment, OpenVINO's, are one after another for the others. Writes `results/pack/files.json` and
prints its table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evidence import write_result
from pack import GENERAL, LARGEST

from pqd_pack.packing import pack, unpack
from pqd_pack.size import deployed_files


def sizes(files: dict[str, bytes]) -> dict[str, int]:
    """Bytes of the files as they are, and by each compressor."""
    packed, whole = pack(files), b"".join(files.values())
    if unpack(packed, LARGEST) != files:
        raise AssertionError("pqd pack does not give its input back")
    return {"file": len(whole), "pqd pack": len(packed)} | {
        name: len(shrink(whole)) for name, (shrink, _) in GENERAL.items()
    }


def table(found: dict[str, dict[str, int]]) -> str:
    """In Markdown."""
    columns = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    return "\n".join(
        [*lines, *(f"| {name} | {' | '.join(f'{n:,}' for n in row.values())} |" for name, row in found.items())]
    )


def main() -> None:
    """Measure every deployment of a run, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    deployed = parser.parse_args().run / "deployed"
    folders = sorted({file.parent for file in deployed.rglob("manifest.json")})
    found = {folder.relative_to(deployed).as_posix(): sizes(deployed_files(folder)) for folder in folders}
    write_result("pack/files", found, threads=1, seeds=[0])
    print(table(found))


if __name__ == "__main__":
    main()
