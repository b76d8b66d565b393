"""The examples run as they stand, and are as short as promised."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def code_lines(name: str) -> list[str]:
    lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith('"""')]


def test_a_network_of_ones_own_is_compressed(capsys: pytest.CaptureFixture[str]) -> None:
    found = runpy.run_path(str(EXAMPLES / "own_model.py"))["found"]
    assert found.report.complete, found.report.problems
    assert found.best is not None
    assert found.model is not None
    assert "magnitude -> int8-qat -> logit-kd" in capsys.readouterr().out
    assert len(code_lines("own_model.py")) <= 24


def test_a_stage_of_ones_own_is_run() -> None:
    main = runpy.run_path(str(EXAMPLES / "own_stage.py"))
    spec = {"backbone": {"use": "resnet20", "width": 0.25}, "dataset": "digits", "baseline": {"epochs": 1}}
    parts = {"runtimes": ["onnxruntime"], "measure": ["size"], "budget": {"epochs": 2}}
    report = main["pqd"].run(main["pqd"].Spec(**spec, **parts, stages=["clip-weights", "int8-qat"]))
    assert report.rows[-1].label == "clip-weights -> int8-qat"
    stage = code_lines("own_stage.py")
    assert stage.index('if __name__ == "__main__":') <= 27


def test_the_notebook_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((EXAMPLES / "own_model.ipynb").read_text(encoding="utf-8"))["cells"]
    shared: dict[str, Any] = {"__name__": "notebook"}
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        exec(compile("".join(cell["source"]), "own_model.ipynb", "exec", dont_inherit=True), shared)
    assert shared["found"].best is not None
    assert "magnitude -> int8-qat" in capsys.readouterr().out
