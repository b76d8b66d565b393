"""What README and docs say is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pqd_core import Spec, hookspecs, run
from pqd_core.host.plugins import BRINGS
from pqd_core.host.read_spec import parse_spec
from pqd_core.plan import build_plan
from pqd_core.testing import toy_host, toy_spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_block(text: str, language: str, containing: str) -> str:
    """The one fenced block of that language that contains `containing`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def test_the_stage_of_the_readme_runs_and_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = toy_host()
    monkeypatch.setattr("pqd_core.host.local.default_host", lambda: host)
    exec(
        compile(code_block(README, "python", "register_stage"), "README.md", "exec", dont_inherit=True),
        {"__name__": "readme"},
    )
    spec = parse_spec(toy_spec(stages=[{"use": "clip-weights", "deviations": 1.5}]), host)
    run(spec, tmp_path / "run", store=tmp_path / "store", host=host)
    from pqd_core.artifact import Store

    artifact = Store(tmp_path / "store").find("steps", build_plan(spec, host).steps[-1].key)
    assert artifact is not None
    weight = artifact.tensors("weights.safetensors")["conv.weight"]
    assert float(weight.abs().max()) <= 1.6 * float(weight.std())


def test_the_stage_of_the_readme_has_about_as_many_lines_as_promised() -> None:
    lines = [line for line in code_block(README, "python", "register_stage").splitlines() if line.strip()]
    assert len(lines) <= 25


def test_the_spec_of_the_readme_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    (tmp_path / "cifar10.npz").touch()
    monkeypatch.chdir(tmp_path)
    spec = Spec.model_validate(yaml.safe_load(code_block(README, "yaml", "backbone:")))
    assert spec.stage_epochs() == [20, 40, 12]


def test_every_hook_is_described_where_plugins_look() -> None:
    page = (ROOT / "pqd_core" / "hookspecs.py").read_text(encoding="utf-8")
    hooks = [name for name in dir(hookspecs) if name.startswith("pqd_")]
    assert set(BRINGS) < set(hooks)
    assert all(f"def {name}(" in page and getattr(hookspecs, name).__doc__ for name in hooks)


@pytest.mark.parametrize("page", ["README.md", "docs/latency.md"])
def test_every_table_of_results_is_taken_from_a_result_file(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    results = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "benchmarks/results").rglob("report.md"))
    rows = re.findall(r"^\| [^|\n]* \| (?:onnxruntime|openvino|torch) \|.*$", text, re.MULTILINE)
    assert [row for row in rows if row not in results] == []


def test_the_reliability_of_the_statistics_is_taken_from_its_result_file() -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    numbers = json.loads((ROOT / "benchmarks/results/statistics_check.json").read_text(encoding="utf-8"))["numbers"]
    for seeds, found in numbers["coverage"].items():
        assert f"| {seeds} |" in text
        assert f"| {found['student'] * 100:.0f} % |" in text
    for row in numbers["says that order matters"]:
        line = f"| {row['seeds']} | {row['shared']:g} | {row['effect']:g} | {row['share'] * 100:.0f} % |"
        assert line in text
