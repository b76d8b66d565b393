"""The records say what the measurers do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pqd_measure import LatencySettings, pqd_measurers

RECORDS = {record.name: record for record in pqd_measurers()}


def test_the_short_table_shows_one_number_of_each_kind() -> None:
    headline = [metric.name for record in RECORDS.values() for metric in record.metrics if metric.headline]
    assert headline == ["accuracy", "size_bytes", "latency_ms", "sparsity"]


def test_latency_takes_all_candidates_at_once() -> None:
    assert RECORDS["latency"].together


def test_the_page_says_what_the_version_of_latency_changed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "latency.md").read_text(encoding="utf-8")
    assert f"In version {RECORDS['latency'].version} the " in page


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"rounds": 4}, {"seconds": 0}, {"at_once": 1}, {"treads": 2}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LatencySettings(**wrong)


@pytest.mark.parametrize("module", ["pqd_measure", "pqd_measure.worker"])
def test_neither_the_root_nor_a_worker_imports_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
