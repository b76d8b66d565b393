"""Two runs side by side."""

from __future__ import annotations

import pytest
from studies import STAGES, measured, study

from pqd_core import Report
from pqd_core.host.compare import compare_runs, comparison_text


@pytest.fixture(scope="module")
def a() -> Report:
    return study((0, 1, 2), pipelines=[(), STAGES[:1], STAGES[:2]])


def test_a_run_is_like_itself(a: Report) -> None:
    found = compare_runs(a, a)
    assert found.differences == []
    assert {pair.change.value for pair in found.pairs if pair.change and pair.metric == "accuracy"} == {0.0}
    assert "asked and run alike" in list(comparison_text(found))


def test_what_both_have_is_paired_by_seed(a: Report) -> None:
    b = study((1, 2, 3), pipelines=[(), STAGES[:1]], base=0.92)
    found = compare_runs(a, b)
    pair = next(p for p in found.pairs if p.pipeline == ("magnitude",) and p.metric == "accuracy")
    assert pair.change is not None
    assert pair.change.n == 2
    assert pair.change.value == pytest.approx(0.02)
    assert found.only_a == ["magnitude -> int8-qat on onnxruntime", "magnitude -> int8-qat on openvino"]
    assert found.only_b == []


def test_what_differs_in_spec_machine_and_versions_is_told_by_its_place(a: Report) -> None:
    spec = {**a.spec, "budget": {**a.spec["budget"], "epochs": 40}}
    environment = {**measured()["environment"], "versions": {**measured()["environment"]["versions"], "torch": "2.11"}}
    b = a.model_copy(update={"spec": spec, "environment": environment})
    told = [(d.where, d.a, d.b) for d in compare_runs(a, b).differences]
    assert told == [("spec.budget.epochs", 10, 40), ("environment.versions.torch", "2.15.0", "2.11")]
    lines = list(comparison_text(compare_runs(a, b)))
    assert "  spec.budget.epochs: 10 -> 40" in lines
    assert any(line.startswith("times of two runs were not measured side by side") for line in lines)
