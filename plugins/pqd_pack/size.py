"""Bytes of the deployed file, all its parts, when it is packed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pqd_core import Deployed, MeasureContext, Measurement, Settings
from pqd_pack import MAX_MEGABYTES, SIZE_PACKED
from pqd_pack.account import account
from pqd_pack.disk import read
from pqd_pack.packing import pack, unpack

MANIFEST = "manifest.json"


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: bytes of its packed file, which has been unpacked and compared."""
    return [[_measure_one(candidate.folder)] for candidate in candidates]


def _measure_one(folder: Path) -> Measurement:
    files = deployed_files(folder)
    if not files:
        return _cell(None, missing=f"no deployed file in {folder}")
    size = sum(map(len, files.values()))
    packed = pack(files)
    if unpack(packed, size) != files:
        return _cell(None, missing="the packed file does not unpack to what it was", provenance={"error": True})
    found = account(packed, size)
    parts = {part.kind: part.packed for part in found.parts}
    return _cell(len(packed), provenance={"parts": parts, "bits_per_weight": found.bits_per_weight})


def deployed_files(folder: Path) -> dict[str, bytes]:
    """Everything below `folder` that is deployed, by a name without folders: all but the store's manifest."""
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    found.pop(MANIFEST, None)
    return {name.replace("/", "_"): read(file, MAX_MEGABYTES * 2**20) for name, file in found.items()}


def _cell(value: float | None, **more: object) -> Measurement:
    return Measurement(SIZE_PACKED.name, value, SIZE_PACKED.unit, SIZE_PACKED.better, **more)  # type: ignore[arg-type]
