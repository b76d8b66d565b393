from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from light import SIZE

from pqd_core import Deployed, MeasureContext, Measurement, MeasurerDef, RuntimeDef
from pqd_core.testing.toys import ToyNet

Measure = Callable[..., Any]


def number(value: float | None = 1.0, **more: Any) -> Measurement:
    return Measurement("size_bytes", value, "bytes", "lower", **more)


@pytest.fixture
def measuring(bench: Bench) -> Callable[..., Any]:
    """Runs a spec that measures with one function."""

    def run(measure: Measure, together: bool = False, **changes: Any) -> Any:
        load = type("Measures", (), {"measure": staticmethod(measure)})
        bench.host.add(
            "given", MeasurerDef(name="given", summary="Given.", metrics=(SIZE,), load=load, together=together)
        )
        return bench.run(bench.spec(**{"measure": ["given"], **changes}))

    return run


def test_a_measurer_sees_each_file_alone_or_all_of_them_as_it_asks(measuring: Any) -> None:
    groups: list[list[str]] = []

    def measure(candidates: Any, settings: Any, context: Any) -> Any:
        groups.append(["+".join(c.pipeline) for c in candidates])
        return [[number(len(groups))] for _ in candidates]

    measuring(measure)
    assert groups == [[""], ["nudge"]]
    groups.clear()
    measuring(measure, together=True, seed=1)
    assert groups == [["", "nudge"]]


def test_a_measurer_is_handed_the_file_its_weights_and_its_model(measuring: Any, bench: Bench) -> None:
    seen: dict[str, Any] = {}

    def measure(candidates: list[Deployed], settings: Any, context: MeasureContext) -> Any:
        (candidate,) = candidates
        seen.update(
            file=candidate.file,
            weights=context.weights(candidate),
            model=context.frozen_model(candidate),
            threads=context.threads,
            images=len(context.data.test),
            scratch=(context.scratch, list(context.scratch.iterdir())),
            logits=context.open_session(candidate)(context.data.test.images[:2].astype("float32")),  # type: ignore[union-attr]
        )
        return [[number()]]

    measuring(measure, stages=[], threads=3)
    assert seen["file"].is_relative_to(bench.store)
    assert sorted(seen["weights"]) == ["conv.weight", "head.weight"]
    assert isinstance(seen["model"], ToyNet)
    assert (seen["threads"], seen["images"]) == (3, 60)
    assert seen["scratch"][1] == []
    assert not seen["scratch"][0].exists()
    assert seen["logits"].shape == (2, 3)


def test_another_process_can_be_told_how_to_open_a_file(bench: Bench, measuring: Any) -> None:
    seen: list[Any] = []

    def measure(candidates: list[Deployed], settings: Any, context: MeasureContext) -> Any:
        seen.append((context.worker(candidates[0]), candidates[0].file))
        return [[number()]]

    bench.host.add("given", RuntimeDef(name="far", summary="By its path.", load="light:Light"))
    measuring(measure, stages=[], runtimes=["far"])
    (load, file, settings), real = seen[0]
    assert (load, file, settings) == ("light:Light", str(real), bench.spec(runtimes=["far"]).runtimes[0].settings)  # type: ignore[index]


def test_every_number_says_what_it_was_measured_on(measuring: Any) -> None:
    report = measuring(lambda candidates, *_: [[number(provenance={"batch": 1, "threads": 7})]], stages=[])
    (metric,) = report.rows[0].metrics.values()
    assert metric.provenance["runtime"] == "light"
    assert metric.provenance["cpu"]["cores"] >= 1
    assert metric.provenance["when"].startswith("20")
    assert metric.provenance["batch"] == 1
    assert metric.provenance["threads"] == 7, "what the measurer says wins"


@pytest.mark.parametrize("spread", [float("nan"), float("inf")])
def test_a_spread_that_is_no_number_is_left_out(measuring: Any, spread: float) -> None:
    report = measuring(lambda candidates, *_: [[number(5.0, spread=spread)]], stages=[])
    (metric,) = report.rows[0].metrics.values()
    assert (metric.value, metric.spread) == (5.0, None)
    assert report.complete


@pytest.mark.parametrize("changes", [{"threads": 2}, {"seed": 1}, {"stages": [{"use": "nudge", "by": 0.5}]}])
def test_what_was_measured_under_other_conditions_is_measured_again(measuring: Any, changes: dict[str, Any]) -> None:
    calls: list[int] = []

    def measure(candidates: Any, *_: Any) -> Any:
        calls.append(1)
        return [[number(len(calls))]]

    base = {"stages": [{"use": "nudge", "by": 0.1}], "budget": {"epochs": 1}}
    measuring(measure, **base)
    before = len(calls)
    measuring(measure, **base)
    assert len(calls) == before == 2
    measuring(measure, **{**base, **changes})
    assert len(calls) > before


def test_a_file_that_was_exported_anew_is_measured_anew(bench: Bench, measuring: Any) -> None:
    calls: list[Path] = []

    def measure(candidates: Any, *_: Any) -> Any:
        calls.append(candidates[0].file)
        return [[number()]]

    for version in ("1", "1", "2"):
        bench.host.add("given", RuntimeDef(name="far", summary="Far.", load="light:Light", version=version))
        measuring(measure, stages=[], runtimes=["far"])
    assert len(calls) == 2
    assert calls[0] != calls[1]


def test_a_measurer_without_a_file_to_measure_is_not_called(measuring: Any) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("there is no file")

    assert measuring(never, runtimes=[]).complete


def test_a_missing_implementation_is_a_missing_cell(bench: Bench) -> None:
    bench.host.add("given", MeasurerDef(name="far", summary="Far.", metrics=(SIZE,), load="nowhere.at.all"))
    report = bench.run(bench.spec(stages=[], measure=["far"]))
    assert "far failed: ModuleNotFoundError" in str(report.rows[0].metrics["size_bytes"].missing)
    assert not report.complete
