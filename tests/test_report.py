from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from light import stage_record
from pydantic import ValidationError
from studies import measured, study

from pqd_core import Measurement, MeasurerDef, MetricDef, PqdError
from pqd_core.host.analysis import analyse
from pqd_core.host.rows import Metric, Row
from pqd_core.host.words import counted, quantity
from pqd_core.report import REPORT_LIMIT_BYTES, SCHEMA_VERSION, Report, read_report

KEY = "0" * 64


def row(pipeline: str = "", runtime: str = "ort", seed: int = 0, **values: float | None) -> Row:
    stages = tuple(pipeline.split("+")) if pipeline else ()
    units = {"accuracy": ("1", "higher"), "accuracy_validation": ("1", "higher"), "latency_ms": ("ms", "lower")}
    metrics = {
        name: Metric(
            value=value,
            unit=units.get(name, ("bytes", "lower"))[0],
            better=units.get(name, ("bytes", "lower"))[1],
            missing=None if value is not None else "no reason",
        )
        for name, value in values.items()
    }
    place = Path("deployed") / (pipeline or "baseline") / runtime / "net.onnx"
    return Row(pipeline=stages, seed=seed, runtime=runtime, file=place, step=KEY, parity={}, metrics=metrics)


def report(*rows: Row) -> Report:
    environment = {
        "cpu": {"model": "a CPU", "flags": ["avx2"]},
        "threads": 2,
        "device": "cpu",
        "python": "3.11",
        "versions": {"torch": "2.15"},
    }
    spec = {"seed": 0, "description": "Words."}
    return Report(
        title="a run",
        created="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        rows=list(rows),
        analysis=analyse(rows, spec),
        steps=[],
        verdicts=["all is well"],
        problems=["one cell | is missing"],
        complete=False,
        spec=spec,
        plugins=[],
        environment=environment,
    )


# --- the contract


def test_report_json_is_what_its_schema_says(finished: tuple[Bench, Report]) -> None:
    bench, _ = finished
    raw = json.loads((bench.folder / "out" / "report.json").read_text())
    schema = Report.model_json_schema()
    assert set(raw) == set(schema["properties"])
    assert raw["schema_version"] == SCHEMA_VERSION
    assert set(raw["rows"][0]) == set(schema["$defs"]["Row"]["properties"])
    assert set(raw["steps"][0]) == set(schema["$defs"]["StepRecord"]["properties"])
    metric = raw["rows"][1]["metrics"]["accuracy"]
    assert {"value", "unit", "better", "spread", "n"} <= set(metric)
    assert raw["rows"][0]["pipeline"] == []
    assert raw["rows"][2]["pipeline"] == ["nudge", "nudge"]
    assert raw["spec"]["stages"][1]["epochs"] == 2
    assert raw["environment"]["versions"]["torch"]
    assert {plugin["name"] for plugin in raw["plugins"]} == {"toys", "light"}


def test_every_field_of_the_contract_is_described() -> None:
    for model in Report.model_json_schema()["$defs"].values():
        assert all("description" in field for field in model["properties"].values()), model["title"]


def test_an_unknown_key_makes_it_another_contract() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Report.model_validate({**report().model_dump(), "more": 1})


# --- read again


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("", "it is no report of this version"),
        ("[]", "it is no report of this version"),
        ('{"schema_version": 2}', "it is no report of this version"),
        ('{"schema_version": 3}', "it is no report of this version"),
        ('{"schema_version": 1, "rows": [1]}', "it is no report of this version"),
        ('{"schema_version": 1, "rows": [], "spec": {"stages": 7}}', "it is no report of this version"),
        ("[" * 100_000, "it is no report of this version"),
        ("\ufeff\x00", "it is no report of this version"),
        (" " * (REPORT_LIMIT_BYTES + 1), "it is no report of this version"),
    ],
)
def test_what_is_no_report_is_told(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(
        PqdError, match=rf"report\.json: cannot be read: {reason}.*give the folder of a finished run"
    ) as e:
        read_report(tmp_path)
    assert e.value.exit_code == 2


def test_a_report_of_another_version_says_of_which(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema_version": 7}')
    with pytest.raises(PqdError, match=r"it is a report of version 7, this pqd reads 1 to 3; read it with that") as e:
        read_report(tmp_path)
    assert e.value.exit_code == 2


def test_a_report_of_version_1_gets_the_analysis_that_it_lacks(tmp_path: Path) -> None:
    raw = json.loads(report(*ROWS).model_dump_json())
    del raw["analysis"]
    (tmp_path / "report.json").write_text(json.dumps({**raw, "schema_version": 1}))
    assert read_report(tmp_path).table() == report(*ROWS).table()


def test_a_report_of_version_2_stays_as_it_was_judged(tmp_path: Path) -> None:
    newer = {"orders": ("p_corrected", "tests", "correction"), "goals": ("runner_up", "lead", "as_good")}
    raw = json.loads(study(goals=[{"metric": "latency", "max_accuracy_drop": None, "runtime": None}]).model_dump_json())
    for part, names in newer.items():
        assert raw["analysis"][part]
        raw["analysis"][part] = [{k: v for k, v in one.items() if k not in names} for one in raw["analysis"][part]]
    (tmp_path / "report.json").write_text(json.dumps({**raw, "schema_version": 2}))
    found = read_report(tmp_path)
    assert found.verdicts == raw["verdicts"]
    assert [test.answer for test in found.analysis.orders] == [test["answer"] for test in raw["analysis"]["orders"]]
    assert {test.p_corrected for test in found.analysis.orders} == {None}


def test_a_report_is_read_from_its_folder_or_its_file(finished: tuple[Bench, Report]) -> None:
    bench, made = finished
    folder = bench.folder / "out"
    for place in (folder, folder / "report.json"):
        found = read_report(place)
        assert found.folder == folder
        assert found.table() == made.table()


# --- the best row

ROWS = (
    row(accuracy=0.99, latency_ms=10.0),
    row("prune", accuracy=0.98, latency_ms=9.0),
    row("prune+int8", accuracy=0.95, latency_ms=4.0),
    row(runtime="ov", accuracy=0.99, latency_ms=8.0),
    row("prune", runtime="ov", accuracy=None, latency_ms=1.0),
)


def test_the_best_row_is_the_best_that_keeps_its_accuracy() -> None:
    found = report(*ROWS)
    assert found.best("latency_ms").label == "prune -> int8"
    assert found.best("latency_ms", max_accuracy_drop=0.01, runtime="ort").label == "prune", "0.99 - 0.98 is 0.01"
    assert found.best("latency_ms", max_accuracy_drop=0.0).runtime == "ov"
    assert found.best("latency_ms", 0.0, runtime="ort").label == "dense baseline"
    assert found.best("accuracy").value("accuracy") == 0.99


def test_the_best_row_has_the_whole_path_of_its_file(finished: tuple[Bench, Report]) -> None:
    _, made = finished
    assert made.best("size_bytes").file.is_file()
    assert made.best("size_bytes").file.is_absolute()
    assert not made.rows[0].file.is_absolute()


def test_nothing_is_chosen_on_the_test_images_where_others_were_held_out() -> None:
    rows = (
        row(accuracy=0.9, accuracy_validation=0.9, latency_ms=9.0),
        row("a", accuracy=0.5, accuracy_validation=0.9, latency_ms=2.0),
        row("b", accuracy=0.9, accuracy_validation=0.5, latency_ms=1.0),
    )
    assert report(*rows).best("latency_ms", max_accuracy_drop=0.1).label == "a"


def test_each_row_is_compared_within_its_runtime_and_its_seed() -> None:
    dense = [row(seed=seed, accuracy=0.9, latency_ms=9) for seed in (0, 1)]
    alone = row("a", seed=2, accuracy=0.9, latency_ms=1)
    assert report(*dense, alone).dense(alone) is None
    assert report(*dense).best("latency_ms").seed == 0
    with pytest.raises(PqdError, match="no pipeline that has all seeds keeps its accuracy"):
        report(*dense, alone).best("latency_ms")


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (
            ROWS,
            {"metric": "speed"},
            "no row has the metric 'speed'; known: accuracy on ort, accuracy on ov, latency_ms",
        ),
        (ROWS, {"metric": "latency_ms", "runtime": "x"}, "no row has the metric 'latency_ms' on x; known: .* on ort"),
        (ROWS[1:3], {"metric": "latency_ms"}, "no row has an accuracy to compare with the dense network's"),
        ((row(latency_ms=1.0),), {"metric": "latency_ms"}, "no row has an accuracy to compare"),
        (ROWS[:3], {"metric": "latency_ms", "max_accuracy_drop": -0.1}, "every pipeline loses more than -10.00%"),
        ((), {"metric": "latency_ms"}, "no row has the metric 'latency_ms'"),
    ],
)
def test_where_no_row_is_best_it_is_said_why(rows: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PqdError, match=message):
        report(*rows).best(**arguments)


# --- for people


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.98765, "1", "98.77 %"),
        (1_167_000, "bytes", "1,167 kB"),
        (44_700_000, "bytes", "44.7 MB"),
        (3.3049, "ms", "3.30 ms"),
        (0.01234, "ms", "0.0123 ms"),
        (110.4, "ms", "110 ms"),
        (555_422_720, "MAC", "555.4 M MAC"),
        (0, "ms", "0.00 ms"),
    ],
)
def test_quantities_are_written_as_a_person_reads_them(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_one_thing_is_not_several() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]


def test_the_table_has_a_line_for_each_row_with_its_difference_to_the_dense_network() -> None:
    lines = report(*ROWS).table().splitlines()
    assert lines[0].split() == ["pipeline", "runtime", "epochs", "accuracy", "latency"]
    assert any("prune -> int8" in line and "95.00 % (-4.00)" in line and "4.00 ms (0.40x)" in line for line in lines)
    assert any("prune" in line and "ov" in line and "missing" in line for line in lines)


def test_a_dense_network_that_is_zero_is_not_divided_by() -> None:
    assert "x)" not in report(row(latency_ms=0.0), row("a", latency_ms=1.0)).table()


def test_the_table_says_how_long_the_stages_of_each_pipeline_trained() -> None:
    found = study((0, 1), pipelines=[(), ("magnitude",), ("magnitude", "int8-qat")], runtimes=["onnxruntime"])
    by_stage = {step["stage"]: step["epochs"] for step in measured()["steps"]}
    assert found.baseline_epochs == by_stage["baseline"]
    both = by_stage["magnitude"] + by_stage["int8-qat"]
    assert [line[2] for line in found.grid()[1]] == ["", str(by_stage["magnitude"]), str(both)]
    assert f"`epochs` are those of the stages, after the {by_stage['baseline']} epochs of the baseline" in found.legend


def test_steps_that_are_not_there_or_go_in_circles_have_no_epochs() -> None:
    found = study((0,), pipelines=[(), ("magnitude",), ("int8-qat",)], runtimes=["onnxruntime"])
    dense, pruned, _ = found.steps
    found.steps = [dense, pruned.model_copy(update={"parent": pruned.key})]
    assert found.epochs(("magnitude",)) is None, "its own parent"
    assert found.epochs(("int8-qat",)) is None, "not there"
    assert found.epochs(("logit-kd",)) is None, "no such pipeline"
    assert found.epochs(()) == 0


def test_csv_has_a_line_for_each_number_and_for_each_missing_one(tmp_path: Path) -> None:
    report(*ROWS).write(tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert len(lines) == 10
    assert lines[-2] == {
        "pipeline": "prune",
        "seed": "0",
        "runtime": "ov",
        "metric": "accuracy",
        "value": "",
        "unit": "1",
        "better": "higher",
        "spread": "",
        "n": "",
        "missing": "no reason",
        "file": "deployed/prune/ov/net.onnx",
        "epochs": "",
    }


# --- verdicts


def verdicts(bench: Bench, values: dict[str, float], unit: str = "ms", spread: float = 0.0, **stage: Any) -> list[str]:
    """The sentences of a run in which each pipeline has a given number."""

    def measure(candidates: Any, settings: Any, context: Any) -> Any:
        value = values["+".join(candidates[0].pipeline)]
        return [[Measurement("number", value, unit, "lower", spread=spread, n=60)]]

    load = type("Measures", (), {"measure": staticmethod(measure)})
    metrics = (MetricDef("number", unit, "lower"),)
    bench.host.add("given", MeasurerDef(name="given", summary="s", metrics=metrics, load=load))
    bench.host.add("given", stage_record("step", **stage))
    return bench.run(bench.spec(stages=["step"], measure=["given"])).verdicts


def test_a_pipeline_is_summed_up_against_the_dense_network(bench: Bench) -> None:
    assert verdicts(bench, {"": 10, "step": 4}) == ["step, against the dense network: number 0.40x on light"]


def test_a_stage_that_gains_nothing_says_why(bench: Bench) -> None:
    told = verdicts(bench, {"": 10, "step": 10.1}, no_gain={"number": "the kernels are dense"})
    assert "step left number where it was, 10.0 ms to 10.1 ms on light: the kernels are dense" in told


def test_a_stage_that_makes_something_worse_is_told(bench: Bench) -> None:
    assert "step made number worse, 10.0 ms to 20.0 ms on light" in verdicts(bench, {"": 10, "step": 20})


def test_a_difference_within_the_noise_is_no_difference(bench: Bench) -> None:
    assert verdicts(bench, {"": 0.5, "step": 0.51}, unit="1", spread=0.1) == [
        "step, against the dense network: number +1.00 points (within the noise) on light"
    ]


def test_a_run_of_the_baseline_alone_has_no_verdict(bench: Bench) -> None:
    assert bench.run(bench.spec(stages=[])).verdicts == []
