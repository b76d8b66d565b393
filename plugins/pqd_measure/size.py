"""Bytes of the deployed file, all its parts, as they are and zstd-compressed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import zstandard

from pqd_core import Deployed, MeasureContext, Measurement
from pqd_measure import SIZE, SIZE_ZSTD, SizeSettings
from pqd_measure.cells import missing, number

MANIFEST = "manifest.json"


class Counter:
    """A file to write to that keeps nothing but the number of bytes."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        """Count `data` and drop it."""
        self.size += len(data)
        return len(data)


def measure(candidates: Sequence[Deployed], settings: SizeSettings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: bytes of its files, and bytes of the same files compressed one by one."""
    return [_measure_one(candidate, settings.zstd_level, context.threads) for candidate in candidates]


def _measure_one(candidate: Deployed, level: int, threads: int) -> list[Measurement]:
    files = deployed_files(candidate.folder)
    if not files:
        return [missing(metric, f"no deployed file in {candidate.folder}") for metric in (SIZE, SIZE_ZSTD)]
    raw = {name: file.stat().st_size for name, file in files.items()}
    packed = {name: compressed_size(file, level, threads) for name, file in files.items()}
    zstd = ".".join(map(str, zstandard.ZSTD_VERSION))
    return [
        number(SIZE, sum(raw.values()), files=raw),
        number(SIZE_ZSTD, sum(packed.values()), files=packed, zstd=zstd, level=level),
    ]


def deployed_files(folder: Path) -> dict[str, Path]:
    """Everything below `folder` that is deployed, by relative name: all but the store's manifest."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    files.pop(MANIFEST, None)
    return files


def compressed_size(file: Path, level: int, threads: int) -> int:
    """Bytes of `file` as one zstd frame, the same for any number of threads; neither is ever in memory as a whole."""
    sink = Counter()
    with file.open("rb") as source:
        zstandard.ZstdCompressor(level=level, threads=threads).copy_stream(source, sink, size=file.stat().st_size)  # type: ignore[arg-type]
    return sink.size
