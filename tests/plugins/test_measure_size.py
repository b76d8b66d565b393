"""Size counts every byte that would be deployed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import zstandard
from measure_kit import context_of, deployed, some_data

from pqd_core import Deployed, Measurement
from pqd_measure import SizeSettings
from pqd_measure.size import compressed_size, measure


def sizes(candidate: Deployed, folder: Path, level: int = 19) -> dict[str, Measurement]:
    [row] = measure([candidate], SizeSettings(zstd_level=level), context_of(some_data(), folder))
    return {number.metric: number for number in row}


def test_all_parts_of_a_deployment_count_and_the_manifest_does_not(tmp_path: Path) -> None:
    candidate = deployed(tmp_path, "one")
    candidate.file.unlink()
    (candidate.folder / "model.xml").write_bytes(b"x" * 100)
    (candidate.folder / "model.bin").write_bytes(b"b" * 3000)
    (candidate.folder / "parts").mkdir()
    (candidate.folder / "parts" / "more.data").write_bytes(b"m" * 7)
    found = sizes(candidate, tmp_path)["size_bytes"]
    assert found.value == 3107
    assert found.provenance["files"] == {"model.bin": 3000, "model.xml": 100, "parts/more.data": 7}


def test_the_compressed_size_is_that_of_a_frame_that_unpacks_to_the_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 30, 200_000, dtype=np.uint8).tobytes()
    (tmp_path / "weights").write_bytes(content)
    frame = io.BytesIO()
    compressor = zstandard.ZstdCompressor(level=19, threads=1)
    compressor.copy_stream(io.BytesIO(content), frame, size=len(content))
    assert zstandard.ZstdDecompressor().decompress(frame.getvalue()) == content
    assert compressed_size(tmp_path / "weights", 19, threads=1) == len(frame.getvalue())


def test_the_compressed_size_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    # At level 1 a job of zstd's is 2 MiB, so this file is shared out among the threads.
    content = np.random.default_rng(0).integers(0, 30, 12_000_000, dtype=np.uint8)
    content.tofile(tmp_path / "weights")
    assert len({compressed_size(tmp_path / "weights", 1, threads) for threads in (1, 2, 5)}) == 1


def test_zeros_make_a_file_smaller_only_when_it_is_compressed(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    dense = sizes(deployed(tmp_path, "dense", weights=weights), tmp_path)
    sparse = sizes(deployed(tmp_path, "sparse", weights=np.where(abs(weights) > 1, weights, 0)), tmp_path)
    assert sparse["size_bytes"].value == dense["size_bytes"].value
    compressed = sparse["size_zstd_bytes"].value, dense["size_zstd_bytes"].value
    assert compressed[0] is not None
    assert compressed[1] is not None
    assert compressed[0] < 0.5 * compressed[1]


def test_files_are_compressed_one_by_one_and_the_level_is_said(tmp_path: Path) -> None:
    candidate = deployed(tmp_path, "one")
    (candidate.folder / "copy.npy").write_bytes(candidate.file.read_bytes())
    found = sizes(candidate, tmp_path, level=3)["size_zstd_bytes"]
    parts = found.provenance["files"]
    assert parts["copy.npy"] == parts["model.npy"] == compressed_size(candidate.file, 3, threads=1)
    assert found.value == 2 * parts["model.npy"]
    assert found.provenance["level"] == 3


def test_an_empty_deployment_has_no_size_rather_than_none_at_all(tmp_path: Path) -> None:
    candidate = deployed(tmp_path, "one")
    candidate.file.unlink()
    for found in sizes(candidate, tmp_path).values():
        assert found.value is None
        assert found.missing is not None
        assert "no deployed file" in found.missing


@pytest.mark.parametrize("level", [0, 23])
def test_a_level_that_zstd_does_not_have_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match="zstd_level"):
        SizeSettings(zstd_level=level)
