"""What is said where seeds are missing, answers differ, or a difference is too small to mean anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies import study

from pqd_core import Report
from pqd_core.host.analysis import Analysis, analyse
from pqd_core.host.render import grid
from pqd_core.host.rows import Metric, Row
from pqd_core.host.verdicts import make_verdicts
from pqd_report.names import Letters
from pqd_report.tables import order_table

UNITS = {"accuracy": ("1", "higher"), "latency_ms": ("ms", "lower"), "size_bytes": ("bytes", "lower")}
GOAL = {"metric": "latency", "max_accuracy_drop": 0.01, "runtime": None}


def row(pipeline: str, seed: int, runtime: str = "ort", spread: float | None = None, **values: float | None) -> Row:
    metrics = {name: _metric(name, value, spread) for name, value in values.items()}
    stages = tuple(pipeline.split("+")) if pipeline else ()
    return Row(pipeline=stages, seed=seed, runtime=runtime, file=Path("net"), step="0" * 64, parity={}, metrics=metrics)


def _metric(name: str, value: float | None, spread: float | None) -> Metric:
    unit, better = UNITS[name]
    spread = None if name == "size_bytes" else spread
    return Metric.model_validate({"value": value, "unit": unit, "better": better, "spread": spread})


def told(rows: Sequence[Row], goals: Sequence[Any] = (), **reasons: str) -> list[str]:
    return make_verdicts(rows, _analysed(rows, goals), {"a": reasons})


def _analysed(rows: Sequence[Row], goals: Sequence[Any] = ()) -> Analysis:
    return analyse(rows, {"stages": [{"use": "x:a"}, {"use": "x:b"}], "goals": list(goals)})


def _status(rows: Sequence[Row], pipeline: tuple[str, ...]) -> str | None:
    (found,) = [s for s in _analysed(rows).summaries if s.pipeline == pipeline]
    return found.standing.status if found.standing else found.incomplete


# --- seeds that are missing

UNEVEN = [
    *(row("", seed, accuracy=0.9, latency_ms=9.0) for seed in (0, 1)),
    *(row("b", seed, accuracy=0.9, latency_ms=8.0) for seed in (0, 1)),
    row("a", 0, accuracy=0.95, latency_ms=1.0),
]


def test_a_pipeline_that_lacks_seeds_has_no_standing_and_wins_no_goal() -> None:
    assert _status(UNEVEN, ("a",)) == "1 of 2 seeds"
    (goal,) = _analysed(UNEVEN, [GOAL]).goals
    assert goal.winner is not None
    assert goal.winner.pipeline == ("b",)
    assert [c.incomplete for c in goal.candidates] == [None, None, "1 of 2 seeds"]
    sentence = next(v for v in told(UNEVEN, [GOAL]) if v.startswith("goal"))
    assert sentence.endswith("1 of 3 miss it; out of it, a on ort (incomplete: 1 of 2 seeds)")


def test_a_metric_that_all_lack_for_one_seed_makes_none_incomplete() -> None:
    rows = [row(p, s, accuracy=0.9, latency_ms=None if s else 9.0 - len(p)) for p in ("", "a") for s in (0, 1)]
    assert (_status(rows, ()), _status(rows, ("a",))) == ("dominated", "frontier")


def test_the_tables_count_the_studys_seeds_and_show_no_interval_beside_deviations() -> None:
    whole = study((0, 1), pipelines=[(), ("magnitude",)], runtimes=["onnxruntime"])
    rows = [r for r in whole.rows if (r.pipeline, r.seed) != (("magnitude",), 1)]
    assert rows[-1].metrics["latency_ms"].spread
    report: Report = whole.model_copy(update={"rows": rows, "analysis": analyse(rows, whole.spec)})
    line = grid(report)[1][1]
    assert all("[1 of 2 seeds]" in cell and "±" not in cell for cell in line[3:])
    shown = order_table(report, Letters({"magnitude": "M"})).rows[1]
    assert all("1 of 2 seeds" in cell.note and "±" not in cell.text for cell in shown[3:-1])
    assert shown[-1].text == "incomplete: 1 of 2 seeds"


# --- orders


def _orders(runtime: str, seeds: Sequence[int], gap: float) -> list[Row]:
    """Two orders whose accuracy differs by `gap` in every seed, with a little noise."""
    return [
        row(order, seed, runtime, latency_ms=1.0 + seed, accuracy=0.5 + 0.001 * seed + gain + 0.0001 * (seed % 3) * way)
        for order, gain, way in (("a+b", gap, 1), ("b+a", 0.0, -1))
        for seed in seeds
    ]


def test_accuracy_is_told_first_and_each_runtime_has_its_own_answer() -> None:
    first, second, *_ = told([*_orders("ort", range(7), 0.1), *_orders("ov", [0], 0.1)])
    assert first.startswith("order of a and b changed accuracy (2 orders, 7 seeds) by up to 10.02 points")
    assert first.endswith("on ort")
    assert second.startswith("one seed cannot tell whether the order of a and b matters: accuracy differs")
    assert "on ov" in second
    assert "ort" not in second


def test_orders_without_a_common_seed_are_said_not_to_be_compared_and_which_lack_seeds() -> None:
    rows = [row("a+b", 0, accuracy=0.9), row("b+a", 1, accuracy=0.8), row("b+a", 0, accuracy=None)]
    assert told(rows)[0] == (
        "orders of a and b cannot be compared by accuracy, no seed has all: "
        "a -> b has 1 of 2 seeds, b -> a has 1 of 2 seeds on ort"
    )


# --- the best trades


def test_three_bytes_are_no_domination() -> None:
    rows = [
        row(pipeline, 0, spread=0.01, accuracy=0.9, latency_ms=9.0, size_bytes=size)
        for pipeline, size in (("", 100_003.0), ("a", 100_000.0))
    ]
    assert _status(rows, ()) == "tied"
    assert "0 of 2 are dominated, 1 tied within the noise" in " ".join(told(rows))


def test_three_bytes_save_no_pipeline_that_is_worse_in_all_else() -> None:
    rows = [
        row("", 0, spread=0.01, accuracy=0.8, size_bytes=100_000.0),
        row("a", 0, spread=0.01, accuracy=0.9, size_bytes=100_003.0),
    ]
    assert _status(rows, ()) == "dominated"


def test_a_loss_beyond_noise_is_no_domination() -> None:
    rows = [
        row("", 0, spread=0.01, accuracy=0.9, size_bytes=400.0),
        row("a", 0, spread=0.01, accuracy=0.8, size_bytes=100.0),
    ]
    assert (_status(rows, ()), _status(rows, ("a",))) == ("frontier", "frontier")


# --- stages


def _latencies(spread: float, after: float) -> list[Row]:
    return [row("", 0, spread=spread, latency_ms=10.0), row("a", 0, spread=spread, latency_ms=after)]


def test_no_cause_is_given_where_noise_hides_whether_there_was_a_change() -> None:
    known = told(_latencies(0.1, 10.1), latency_ms="dense kernels")
    assert "a left latency where it was, 10.0 ms to 10.1 ms on ort: dense kernels" in known
    hidden = told(_latencies(3.0, 10.1), latency_ms="dense kernels")
    assert "a: no change of latency beyond noise, 10.0 ms to 10.1 ms on ort" in hidden
    assert "dense kernels" not in " ".join(hidden)


def test_the_reason_for_no_gain_is_no_reason_for_a_loss() -> None:
    assert "a made latency worse, 10.0 ms to 20.0 ms on ort" in told(_latencies(0.1, 20.0), latency_ms="dense kernels")


# --- goals


def test_a_goal_that_none_meets_on_one_runtime_is_told_for_that_runtime() -> None:
    rows = [
        row(p, 0, runtime, accuracy=accuracy, latency_ms=1.0)
        for runtime, p, accuracy in (("ort", "", 0.9), ("ort", "a", 0.9), ("ov", "", None), ("ov", "a", 0.5))
    ]
    sentence = next(v for v in told(rows, [GOAL]) if v.startswith("goal"))
    assert "on ort; no pipeline meets it on ov, as numbers are missing" in sentence
    assert "none misses it" not in sentence
