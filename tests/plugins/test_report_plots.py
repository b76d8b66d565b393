"""What plots show, and when there is none."""

from __future__ import annotations

from typing import Any

import pytest
from studies import STAGES, study

from pqd_core.host.compare import compare_runs
from pqd_report.figures import comparison_figures
from pqd_report.html import render_comparison
from pqd_report.names import letters
from pqd_report.plots import changes, frontier, layers

SHORT = letters(STAGES)


def accuracy_axis(spec: dict[str, Any]) -> list[float]:
    scales = (layer["encoding"]["y"].get("scale") for layer in spec["layer"])
    [domain] = {tuple(scale["domain"]) for scale in scales if scale}
    return list(domain)


@pytest.mark.parametrize("base", [0.999, 0.9, 0.003])
def test_the_axis_of_accuracy_holds_every_mark_and_no_share_above_all_or_below_nothing(base: float) -> None:
    report = study((0, 1, 2), base=base, pipelines=[(), STAGES[:1], STAGES], noise=0.004)
    for summary in report.analysis.summaries:
        summary.cells["accuracy"].mean = min(max(summary.cells["accuracy"].mean or 0, 0), 1)
    spec = frontier.draw(report, SHORT, "onnxruntime")
    assert spec is not None
    low, high = accuracy_axis(spec)
    points = frontier.points(report, SHORT, "onnxruntime")
    assert 0 <= low <= min(p["accuracy_low"] for p in points) < max(p["accuracy_high"] for p in points) <= high <= 1


def test_pipelines_of_one_accuracy_have_an_axis_too() -> None:
    report = study((0,), base=1.0, pipelines=[()])
    for summary in report.analysis.summaries:
        summary.cells["accuracy"].mean, summary.cells["accuracy"].spread = 1.0, None
    spec = frontier.draw(report, SHORT, "onnxruntime")
    assert spec is not None
    assert accuracy_axis(spec) == [pytest.approx(0.99), 1.0]


def test_what_did_not_change_has_a_line_and_no_plot() -> None:
    one = study((0, 1, 2), pipelines=[(), STAGES[:1]])
    assert list(comparison_figures(compare_runs(one, one), SHORT)) == []
    assert changes.unchanged(compare_runs(one, one)) == [
        "accuracy, latency, size, sparsity on onnxruntime and openvino"
    ]
    other = study((0, 1, 2), pipelines=[(), STAGES[:1]], base=0.92)
    found = compare_runs(one, other)
    assert [figure.title for figure in comparison_figures(found, SHORT)] == [
        "accuracy on onnxruntime",
        "accuracy on openvino",
    ]
    page = render_comparison(found)["report.html"]
    assert "Nothing changed at all, in any pipeline, in latency, size, sparsity on onnxruntime and openvino." in page


def test_a_change_that_is_none_on_average_alone_has_its_plot() -> None:
    one, other = study((0, 1), pipelines=[()], noise=0), study((0, 1), pipelines=[()], noise=0)
    for row, shift in zip((row for row in other.rows if row.runtime == "onnxruntime"), (0.01, -0.01), strict=True):
        row.metrics["accuracy"].value += shift  # type: ignore[operator]
    assert "accuracy on onnxruntime" in [f.title for f in comparison_figures(compare_runs(one, other), SHORT)]


def test_every_column_of_the_layers_has_its_title_where_there_is_room() -> None:
    report = study((0,))
    spec = layers.draw(report, layers.KINDS[0], SHORT)
    assert spec is not None
    assert spec["encoding"]["x"]["axis"]["labelOverlap"] is False
