"""Strangers' plugins, really installed: found, ordered, run, deployed, measured and reported, by pqd as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPEC = """
backbone: {use: resnet20, width: 0.5}
dataset: {use: digits, size: 8}
baseline: {epochs: 2, batch_size: 64, lr: 0.1}
stages: [STAGES]
budget: {epochs: 2}
runtimes: [RUNTIMES]
measure: [accuracy, size, entropy]
threads: 1
"""


def pqd(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pqd")), *arguments]
    env = {**os.environ, "COLUMNS": "200", "PQD_STORE": str(cwd / "store"), **env}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strangers")


def run(folder: Path, stages: str, runtimes: str) -> tuple[Path, dict[str, Any]]:
    (folder / "spec.yaml").write_text(SPEC.replace("STAGES", stages).replace("RUNTIMES", runtimes))
    out = folder / stages.replace(", ", "+")
    done = pqd("run", "spec.yaml", "--out", str(out), cwd=folder, PQD_TRACKER_FILE=str(folder / "tracked.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return out, report


def number(row: dict[str, Any], metric: str) -> float:
    return float(row["metrics"][metric]["value"])


def test_they_are_known_by_distribution_and_version(folder: Path) -> None:
    found = {plugin["name"]: plugin for plugin in json.loads(pqd("plugins", "--json", cwd=folder).stdout)}
    for name, brings in {"low-rank": "stage", "numpy-runner": "runtime", "tracker": "measurer"}.items():
        plugin = found[name]
        assert (plugin["distribution"], plugin["version"], plugin["error"]) == (f"pqd-{name}", "0.3.0", None)
        assert list(plugin["brings"]) == [brings]
    assert found["tracker"]["hooks"] == ["pqd_measurers", "pqd_run_finished", "pqd_step_finished"]


def test_a_new_kind_of_stage_runs_on_a_new_runtime_and_has_a_new_number(folder: Path) -> None:
    _, report = run(folder, "low-rank", "numpy, onnxruntime")
    assert report["problems"] == []
    assert [row["runtime"] for row in report["rows"]] == ["numpy", "onnxruntime"] * 2
    by_runtime = {row["runtime"]: row for row in report["rows"] if row["pipeline"] == ["low-rank"]}
    assert number(by_runtime["numpy"], "accuracy") == pytest.approx(
        number(by_runtime["onnxruntime"], "accuracy"), abs=0.01
    )
    dense, thin = (number(row, "size_bytes") for row in report["rows"] if row["runtime"] == "numpy")
    assert thin < 0.8 * dense
    events = [json.loads(line) for line in (folder / "tracked.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("row") == 4


def test_it_composes_with_the_bundled_stages(folder: Path) -> None:
    _, report = run(folder, "low-rank, int8-qat", "onnxruntime")
    assert report["problems"] == []
    last = report["rows"][-1]
    assert last["pipeline"] == ["low-rank", "int8-qat"]
    assert number(last, "entropy_bits") <= 8


def test_an_order_that_its_facts_forbid_is_refused_with_the_nearest_legal_one(folder: Path) -> None:
    (folder / "wrong.yaml").write_text(SPEC.replace("STAGES", "int8-qat, low-rank").replace("RUNTIMES", "numpy"))
    done = pqd("plan", "wrong.yaml", cwd=folder)
    assert done.returncode == 2
    assert "low-rank, needs a model that is plain-modules, which step 1, int8-qat, ended" in done.stderr
    assert "the nearest legal order is low-rank -> int8-qat" in done.stderr


def test_a_runtime_that_cannot_take_int8_says_which_operator_it_lacks(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("STAGES", "low-rank, int8-qat").replace("RUNTIMES", "numpy"))
    done = pqd("run", "spec.yaml", "--out", str(folder / "refused"), cwd=folder)
    assert done.returncode == 1
    problems = json.loads((folder / "refused" / "report.json").read_text())["problems"]
    assert len(problems) == 1
    assert "numpy: has no operator" in problems[0]
