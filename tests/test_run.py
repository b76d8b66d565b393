from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench, names
from light import SIZE, Light, LightSize, Nudge, stage_record
from pydantic import Field
from safetensors.torch import load_file
from structlog.contextvars import get_contextvars

from pqd_core import Measurement, MeasurerDef, MetricDef, PqdError, RuntimeDef, Settings, StageContext, hookimpl
from pqd_core.host.errors import ContractError, SpecError, StageError, StoreError
from pqd_core.host.plugins import Host
from pqd_core.report import Report, read_report
from pqd_core.testing.toys import ToyMeasurer


def watcher(host: Host, name: str = "watcher", **hooks: Callable[..., Any]) -> None:
    """A plugin made of functions; the hook's argument names are the functions'."""
    host.manager.register(type(name, (), {hook: staticmethod(hookimpl(f)) for hook, f in hooks.items()})(), name=name)


def weights(bench: Bench, report: Report, index: int = -1) -> dict[str, torch.Tensor]:
    key = report.steps[index].key
    return load_file(bench.store / "steps" / key[:2] / key / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- what a run leaves


def test_a_run_leaves_its_report_its_log_and_its_files(finished: tuple[Bench, Report]) -> None:
    bench, report = finished
    folder = bench.folder / "out"
    assert [name for name in names(folder) if not name.startswith(".")] == [
        "deployed",
        "log.jsonl",
        "report.json",
        "results.csv",
    ]
    assert names(folder / "deployed") == ["baseline", "nudge", "nudge+nudge"]
    assert report.complete
    assert all((folder / row.file).is_file() for row in report.rows)
    assert read_report(folder).model_dump() == report.model_dump()


def test_the_deployed_file_is_the_network_of_its_step(finished: tuple[Bench, Report]) -> None:
    bench, report = finished
    for index, row in enumerate(report.rows):
        file = load_file(bench.folder / "out" / row.file)
        assert row.step == report.steps[index].key
        assert same(file, weights(bench, report, index))


def test_the_log_is_json_lines_with_step_and_plugin_bound_to_each(finished: tuple[Bench, Report]) -> None:
    lines = finished[0].log()
    steps = [line for line in lines if line["event"] == "step finished"]
    assert [(line["step"], line["plugin"]) for line in steps] == [
        ("baseline", "core"),
        ("nudge", "light"),
        ("nudge+nudge", "light"),
    ]
    assert lines[0]["event"] == "run started"
    assert lines[0]["spec"]["seeds"] == [0]
    assert get_contextvars() == {}


def test_a_run_changes_nothing_for_others(bench: Bench) -> None:
    threads, handlers = torch.get_num_threads(), list(logging.getLogger().handlers)
    bench.run(bench.spec(threads=2))
    assert torch.get_num_threads() == threads
    assert logging.getLogger().handlers == handlers


# --- running again


def test_a_second_identical_run_computes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.run()

    def never(*_: Any) -> Any:
        raise AssertionError("this was done already")

    for owner, name in ((Nudge, "run"), (Light, "export"), (LightSize, "measure"), (ToyMeasurer, "measure")):
        monkeypatch.setattr(owner, name, staticmethod(never))
    second = bench.run(out="second")
    assert [step.reused for step in first.steps + second.steps] == [False, False, True, True]
    assert [row.metrics for row in first.rows] == [row.metrics for row in second.rows]
    assert (bench.folder / "second" / second.rows[1].file).read_bytes() == (
        bench.folder / "out" / first.rows[1].file
    ).read_bytes()


def test_a_longer_pipeline_goes_on_from_what_is_there(bench: Bench) -> None:
    bench.run(bench.spec(stages=["nudge"]))
    longer = bench.run(bench.spec(stages=["nudge", {"use": "nudge", "by": 0.5}], budget={"epochs": 2}))
    assert [step.reused for step in longer.steps] == [True, True, False]


def test_the_same_request_gives_the_same_weights_in_another_store(bench: Bench, host: Host, tmp_path: Path) -> None:
    other = Bench(host, tmp_path / "elsewhere")
    other.folder.mkdir()
    spec = bench.spec(stages=["nudge", "nudge"], budget={"epochs": 2})
    a, b = bench.run(spec), other.run(spec)
    assert [step.key for step in a.steps] == [step.key for step in b.steps]
    assert same(weights(bench, a), weights(other, b))
    assert not same(weights(bench, a, 1), weights(bench, a, 2))


def test_another_seed_is_another_network(bench: Bench) -> None:
    a, b = bench.run(bench.spec(seed=1)), bench.run(bench.spec(seed=2))
    assert not same(weights(bench, a, 0), weights(bench, b, 0))
    assert not same(weights(bench, a), weights(bench, b))


def test_measuring_again_is_possible_and_replaces_what_was_stored(bench: Bench) -> None:
    bench.run()
    before = len(list((bench.store / "measured").rglob("manifest.json")))
    calls: list[int] = []
    measure = LightSize.measure

    def counted(candidates: Any, settings: Any, context: Any) -> Any:
        calls.append(len(candidates))
        return measure(candidates, settings, context)

    record = bench.host.registry("measurer").find("light-size").record
    bench.host.registry("measurer").add(
        "light", MeasurerDef(name=record.name, summary="s", metrics=record.metrics, load=_measuring(counted))
    )
    bench.run(remeasure=False)
    assert calls == []
    bench.run(remeasure=True)
    bench.run()
    assert calls == [1, 1]
    assert len(list((bench.store / "measured").rglob("manifest.json"))) == before


def test_zero_epochs_and_no_stages_and_no_runtimes_are_runs_too(bench: Bench) -> None:
    assert len(bench.run(bench.spec(stages=[])).rows) == 1
    assert bench.run(bench.spec(budget={"epochs": 0})).steps[1].epochs == 0
    nothing = bench.run(bench.spec(runtimes=[], measure=[]))
    assert (nothing.rows, nothing.complete, len(nothing.steps)) == ([], True, 2)
    assert "pipeline" in nothing.table()
    assert nothing.notes == ["runtimes is an empty list, so nothing is deployed and nothing measured"]
    assert bench.run(bench.spec(measure=[])).notes == ["measure is an empty list, so nothing is measured"]


def test_twelve_stages_are_run_one_after_another(bench: Bench) -> None:
    report = bench.run(bench.spec(stages=["nudge"] * 12, budget={"epochs": 12}))
    assert report.complete
    assert len({row.file for row in report.rows}) == 13


# --- studies and seeds


def test_a_study_runs_each_step_once_and_has_a_row_for_every_step_and_seed(bench: Bench) -> None:
    stages = ["nudge", "toy-tune", "bulky"]
    report = bench.run(bench.spec(stages=stages, study="full", seeds=[4, 5], budget={"epochs": 3}))
    assert report.complete
    assert len(list((bench.store / "steps").rglob("manifest.json"))) == len(report.steps) == 2 * 16
    assert len({(row.seed, row.pipeline) for row in report.rows}) == len(report.rows) == 2 * 16
    assert all((report.folder / row.file).is_file() for row in report.rows)
    assert names(report.folder / "deployed") == ["seed-4", "seed-5"]


def test_each_seed_of_a_study_is_what_it_is_alone(bench: Bench, host: Host, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"stages": ["toy-tune", "nudge"], "study": "orders", "baseline": {"epochs": 1}}
    both = bench.run(bench.spec(seeds=[1, 2], **changes))
    other = Bench(host, tmp_path / "elsewhere")
    other.folder.mkdir()
    alone = other.run(other.spec(seed=2, **changes))
    mine = [row for row in both.rows if row.seed == 2]
    assert [row.step for row in mine] == [row.step for row in alone.rows]
    assert [row.value("accuracy") for row in mine] == [row.value("accuracy") for row in alone.rows]
    for index, step in enumerate(alone.steps):
        assert same(weights(other, alone, index), weights(bench, both, [s.key for s in both.steps].index(step.key)))


def test_a_step_is_handed_the_baseline_and_the_images_of_its_own_seed(bench: Bench) -> None:
    seen: dict[int, Any] = {}

    class Looks(Nudge):
        @staticmethod
        def run(model: Any, settings: Any, context: StageContext) -> Any:
            seen[context.seed] = (context.baseline().state_dict(), context.data.train.labels.tolist())  # type: ignore[union-attr]
            return model

    bench.host.add("given", stage_record("looks", Looks))
    report = bench.run(bench.spec(stages=["looks"], seeds=[1, 2]))
    for index, seed in ((0, 1), (2, 2)):
        assert same(seen[seed][0], weights(bench, report, index))
    assert seen[1][1] != seen[2][1], "each seed holds out other images"


def test_what_was_left_out_of_a_study_is_in_the_report(bench: Bench) -> None:
    bench.host.add("given", stage_record("polish", needs=("burdened",)))
    report = bench.run(bench.spec(stages=["bulky", "polish"], study="orders"))
    (note,) = report.notes
    assert note.startswith("1 of 2 pipelines are left out")
    assert note in (report.folder / "report.json").read_text()


def test_files_that_are_measured_together_are_those_of_one_seed(bench: Bench) -> None:
    groups: list[list[tuple[int, str]]] = []

    def measure(candidates: Any, settings: Any, context: Any) -> Any:
        groups.append([(c.seed, "+".join(c.pipeline)) for c in candidates])
        return [[Measurement("size_bytes", 1.0, "bytes", "lower")] for _ in candidates]

    clock = MeasurerDef(name="clock", summary="s", metrics=(SIZE,), load=_measuring(measure), together=True)
    bench.host.add("given", clock)
    bench.run(bench.spec(measure=["clock"], seeds=[1, 2]))
    assert groups == [[(1, ""), (1, "nudge")], [(2, ""), (2, "nudge")]]


# --- a stage that fails


def failing(bench: Bench, load: type, **fields: Any) -> pytest.ExceptionInfo[PqdError]:
    bench.host.add("given", stage_record("faulty", load, **fields))
    with pytest.raises(PqdError) as error:
        bench.run(bench.spec(stages=["nudge", "faulty", "nudge"], budget={"epochs": 3}))
    return error


class Raises(Nudge):
    @staticmethod
    def run(model: Any, settings: Any, context: StageContext) -> Any:
        raise RuntimeError("out of luck")


def test_a_stage_that_raises_is_told_with_all_that_one_needs_to_know(bench: Bench) -> None:
    error = failing(bench, Raises, version="7")
    assert isinstance(error.value, StageError)
    assert error.value.exit_code == 1
    assert isinstance(error.value.__cause__, RuntimeError)
    told = str(error.value)
    assert told.startswith("step 3 of 4, faulty: RuntimeError: out of luck (plugin given, version 7, settings {")
    assert told.endswith("running again goes on after nudge; the whole error is in log.jsonl")
    failed = next(line for line in bench.log() if line["event"] == "step failed")
    assert "out of luck" in failed["exception"]
    assert failed["step"] == "nudge+faulty"


def test_running_again_goes_on_after_the_last_finished_step(bench: Bench) -> None:
    failing(bench, Raises)
    bench.host.add("given", stage_record("faulty"))
    report = bench.run(bench.spec(stages=["nudge", "faulty", "nudge"], budget={"epochs": 3}))
    assert [step.reused for step in report.steps] == [True, True, False, False]


def test_a_step_that_fails_stops_what_builds_on_it_and_nothing_else(bench: Bench) -> None:
    bench.host.add("given", stage_record("faulty", Raises))
    study: dict[str, Any] = {"stages": ["nudge", "faulty", "bulky"], "study": "full", "budget": {"epochs": 3}}
    report = bench.run(bench.spec(**study))
    assert not report.complete
    assert {row.pipeline for row in report.rows} == {
        (),
        ("nudge",),
        ("bulky",),
        ("nudge", "bulky"),
        ("bulky", "nudge"),
    }
    failed = [problem for problem in report.problems if "out of luck" in problem]
    assert len(failed) == 5, "alone, after one, and after both in either order"
    assert failed[0].startswith("step 3 of 16, faulty: RuntimeError: out of luck (plugin given")
    assert "running again goes on after nudge" in failed[0]
    assert "6 steps that build on what failed were left out" in report.problems
    bench.host.add("given", stage_record("faulty"))
    again = bench.run(bench.spec(**study))
    assert again.complete
    assert [step.reused for step in again.steps].count(True) == 5


def test_a_store_that_cannot_be_written_stops_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fills(Nudge):
        @staticmethod
        def run(model: Any, settings: Any, context: StageContext) -> Any:
            raise StoreError("the disk is full")

    bench.host.add("given", stage_record("fills", Fills))
    with pytest.raises(StoreError, match="the disk is full"):
        bench.run(bench.spec(stages=["nudge", "fills"], study="full"))
    assert not (bench.folder / "out" / "report.json").exists()


def test_more_jobs_are_refused_for_parts_that_this_process_alone_knows(bench: Bench) -> None:
    with pytest.raises(SpecError, match=r"toy-net, toy-blobs, nudge, light: known to this process alone"):
        bench.run(jobs=2)


def test_a_baseline_that_cannot_be_built_leaves_nothing_to_go_on_from(bench: Bench) -> None:
    with pytest.raises(PqdError, match="nothing was finished before it") as error:
        bench.run(bench.spec(baseline={"epochs": 1, "lr": 1e30, "batch_size": 32}))
    assert "the loss is not finite in epoch 1; lower the learning rate" in str(error.value)


@pytest.mark.parametrize("duty", ["restructure", "run", "freeze"])
def test_a_duty_that_gives_back_no_model_breaks_the_contract(bench: Bench, duty: str) -> None:
    forgets = type("Forgets", (Nudge,), {duty: staticmethod(lambda *_: None)})
    bench.host.add("given", stage_record("faulty", forgets))
    if duty == "freeze":
        told = bench.run(bench.spec(stages=["faulty"])).problems[0]
    else:
        with pytest.raises(ContractError) as error:
            bench.run(bench.spec(stages=["faulty"]))
        told = str(error.value).splitlines()[0]
    what = f"{duty} gave back a NoneType, not a torch.nn.Module"
    assert told == f"faulty: {what}; check: duties-give-back-a-model"


class LosesWeights(Nudge):
    @staticmethod
    def restructure(model: Any, settings: Any, context: StageContext) -> Any:
        if not hasattr(model, "grown"):
            model.grown = torch.nn.Parameter(torch.randn(3))
        return model

    @staticmethod
    def run(model: Any, settings: Any, context: StageContext) -> Any:
        del model.grown
        return model


def test_a_network_that_cannot_be_rebuilt_is_told_with_what_differs(bench: Bench) -> None:
    bench.host.add("given", stage_record("faulty", LosesWeights))
    report = bench.run(bench.spec(stages=["faulty"]))
    assert not report.complete
    assert any("has no grown" in problem for problem in report.problems)


class FreezesBadly(Nudge):
    @staticmethod
    def freeze(model: Any) -> Any:
        raise ValueError("too warm")


def test_a_stage_that_cannot_freeze_is_named_and_the_other_rows_stay(bench: Bench) -> None:
    bench.host.add("given", stage_record("faulty", FreezesBadly))
    report = bench.run(bench.spec(stages=["nudge", "faulty"]))
    assert [row.label for row in report.rows] == ["dense baseline", "nudge"]
    assert not report.complete
    assert len(report.problems) == 1
    assert "faulty: cannot freeze the model (ValueError: too warm; plugin given, version 1)" in report.problems[0]


def test_a_persons_mistake_in_a_step_keeps_its_own_exit_code(bench: Bench) -> None:
    checkpoint = bench.folder / "weights.pt"
    checkpoint.write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(PqdError) as error:
        bench.run(bench.spec(baseline={"checkpoint": str(checkpoint)}))
    assert error.value.exit_code == 2
    assert str(error.value).startswith(f"{checkpoint}: is no readable checkpoint")
    assert "step 1 of 2, baseline: stopped here" in str(error.value)


# --- hooks around a step


def test_observers_are_told_of_every_step_and_of_the_end(bench: Bench) -> None:
    seen: list[Any] = []
    watcher(
        bench.host,
        pqd_step_started=lambda step: seen.append(("started", step.label)),
        pqd_step_finished=lambda step, artifact, reused: seen.append((artifact.folder.is_dir(), step.label, reused)),
        pqd_run_finished=lambda report: seen.append(sorted(p.name for p in report.folder.glob("re*"))),
    )
    bench.run()
    bench.run()
    files = ["report.json", "results.csv"]
    assert seen == [
        ("started", "baseline"),
        (True, "baseline", False),
        ("started", "nudge"),
        (True, "nudge", False),
        files,
        (True, "baseline", True),
        (True, "nudge", True),
        files,
    ]


def test_observers_are_told_of_a_failure(bench: Bench) -> None:
    seen: list[str] = []
    watcher(bench.host, pqd_step_failed=lambda step, error: seen.append(f"{step.label}: {error}"))
    failing(bench, Raises)
    assert seen == ["nudge+faulty: out of luck"]


@pytest.mark.parametrize("hook", ["pqd_step_started", "pqd_step_finished", "pqd_run_finished"])
def test_an_observer_that_raises_is_listed_and_steers_nothing(bench: Bench, hook: str) -> None:
    def fail() -> None:
        raise RuntimeError("no network")

    watched: list[str] = []
    watcher(bench.host, "calm", **{hook: lambda: watched.append(hook)})
    watcher(bench.host, "nervous", **{hook: fail})
    report = bench.run()
    assert report.complete
    expected = f"plugin nervous failed in {hook}: RuntimeError('no network')"
    assert set(report.problems) == {expected}
    assert len(watched) == len(report.problems), "one failure hides no other"
    assert expected in read_report(report.folder).problems
    assert any(line["event"] == "observer failed" for line in bench.log())


@pytest.mark.parametrize("answer", ["a folder", 7, "the parent's artifact"])
def test_an_answer_to_run_step_that_is_not_the_steps_artifact_is_refused(bench: Bench, answer: Any) -> None:
    def pqd_run_step(step: Any, artifact: Any) -> Any:
        return None if step.stage is None else artifact if answer == "the parent's artifact" else answer

    watcher(bench.host, "odd", pqd_run_step=pqd_run_step)
    with pytest.raises(StageError, match=r"step 2 of 2, nudge: TypeError: a plugin's pqd_run_step gave"):
        bench.run()


@pytest.mark.parametrize("place", ["Nudge.run", "Light.export", "LightSize.measure"])
def test_a_part_that_leaves_the_process_is_taken_as_one_that_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def leave(*_: Any) -> Any:
        raise SystemExit(0)

    monkeypatch.setattr(f"light.{place}", staticmethod(leave))
    if place == "Nudge.run":
        with pytest.raises(StageError, match="step 2 of 2, nudge: SystemExit: 0"):
            bench.run()
    else:
        assert "SystemExit: 0" in bench.run().problems[-1]


def test_a_plugin_may_watch_a_step_from_around(bench: Bench) -> None:
    seen: list[str] = []

    @hookimpl(wrapper=True)
    def pqd_run_step(step: Any) -> Any:
        seen.append(f"before {step.label}")
        artifact = yield
        seen.append(f"after {step.label}")
        return artifact

    bench.host.manager.register(type("Around", (), {"pqd_run_step": staticmethod(pqd_run_step)})(), name="around")
    bench.run()
    assert seen == ["before baseline", "after baseline", "before nudge", "after nudge"]


def test_a_plugin_may_run_a_step_elsewhere(bench: Bench) -> None:
    from pqd_core.stage import execute_step

    ran: list[str] = []

    def pqd_run_step(step: Any, artifact: Any, context: Any) -> Any:
        ran.append(step.label)
        return execute_step(step, artifact, context) if step.stage else None

    watcher(bench.host, "cluster", pqd_run_step=pqd_run_step)
    assert bench.run().complete
    assert ran == ["baseline", "nudge"]


# --- deployments and measurements that fail


def _measuring(measure: Callable[..., Any]) -> type:
    return type("Measures", (), {"measure": staticmethod(measure)})


def test_a_measurer_that_raises_leaves_cells_with_the_reason_and_the_rest_whole(bench: Bench) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no clock")

    metrics = (MetricDef("time_ms", "ms", "lower"), MetricDef("time_p95_ms", "ms", "lower"))
    bench.host.add("given", MeasurerDef(name="clock", summary="Clock.", metrics=metrics, load=_measuring(fail)))
    report = bench.run(bench.spec(measure=["clock", "light-size"]))
    assert not report.complete
    for row in report.rows:
        assert row.metrics["time_ms"].value is None
        assert row.metrics["time_p95_ms"].missing == "clock failed: RuntimeError: no clock"
        assert row.metrics["size_bytes"].value
    assert "nudge on light: time_ms is missing: clock failed: RuntimeError: no clock" in report.problems
    assert "missing" in report.table()
    assert "time_ms" in (report.folder / "results.csv").read_text()
    assert any("no clock" in str(line.get("exception")) for line in bench.log())


def test_a_failed_measurement_is_tried_again_and_a_good_one_is_kept(bench: Bench) -> None:
    answers: list[Any] = [RuntimeError("busy"), 7.0, AssertionError("measured twice")]

    def measure(candidates: Any, settings: Any, context: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [[Measurement("size_bytes", answer, "bytes", "lower")]]

    bench.host.add("given", MeasurerDef(name="shy", summary="Shy.", metrics=(SIZE,), load=_measuring(measure)))
    spec = bench.spec(stages=[], measure=["shy"])
    assert [bench.run(spec).rows[0].value("size_bytes") for _ in range(3)] == [None, 7.0, 7.0]


class NeedsMore(Settings):
    path: str = Field(description="Where.")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "gave 0 rows for 1 files"),
        ([[], []], "gave 2 rows for 1 files"),
        (None, "TypeError"),
        ([[7]], "gave 7, which is no measurement of size_bytes"),
        ([[Measurement("speed", 1.0, "1", "higher")]], "no measurement of size_bytes"),
        ([[Measurement("size_bytes", torch.tensor(1.0), "bytes", "lower")]], "not JSON serializable"),  # type: ignore[arg-type]
        ([[Measurement("size_bytes", 1.0, "bytes", "lower", provenance={"x": {1}})]], "not JSON serializable"),
        ([[Measurement("size_bytes", float("nan"), "bytes", "lower")]], "the measured value was nan"),
        ([[Measurement("size_bytes", float("inf"), "bytes", "lower")]], "the measured value was inf"),
        ([[Measurement("size_bytes", None, "bytes", "lower")]], "no reason"),
    ],
)
def test_what_a_measurer_may_not_answer_is_missing_and_never_a_number(bench: Bench, rows: Any, why: str) -> None:
    odd = MeasurerDef(name="odd", summary="Odd.", metrics=(SIZE,), load=_measuring(lambda *_: rows))
    bench.host.add("given", odd)
    report = bench.run(bench.spec(stages=[], measure=["odd"]))
    assert why in str(report.rows[0].metrics["size_bytes"].missing)
    assert not report.complete


def test_what_does_not_apply_is_missing_and_no_failure(bench: Bench) -> None:
    rows = [[Measurement("size_bytes", None, "bytes", "lower", missing="there are only 3 classes")]]
    bench.host.add("given", MeasurerDef(name="n-a", summary="s", metrics=(SIZE,), load=_measuring(lambda *_: rows)))
    report = bench.run(bench.spec(stages=[], measure=["n-a"]))
    assert report.complete
    assert report.rows[0].metrics["size_bytes"].missing == "there are only 3 classes"


def test_everything_installed_is_used_if_the_spec_names_nothing(bench: Bench) -> None:
    bench.host.add("given", MeasurerDef(name="needy", summary="s", metrics=(SIZE,), settings=NeedsMore, load="none"))
    spec = bench.spec(stages=[], runtimes=None, measure=None)
    report = bench.run(spec)
    assert {row.runtime for row in report.rows} == {"light", "toy-torch"}
    assert set(report.rows[0].metrics) == {"accuracy", "size_bytes"}
    assert any("measurer given:needy is left out" in line["event"] for line in bench.log())


def test_two_runtimes_of_one_name_are_never_guessed_and_can_be_chosen(bench: Bench) -> None:
    bench.host.add("given", RuntimeDef(name="light", summary="Another.", load="light:Light"))
    with pytest.raises(SpecError, match="light:light and given:light have one name; name in the spec"):
        bench.run(bench.spec(runtimes=None))
    report = bench.run(bench.spec(runtimes=["given:light"]))
    assert report.complete
    assert [row.runtime for row in report.rows] == ["light", "light"]


# --- where a run writes


def test_a_run_folder_that_cannot_be_written_is_told_before_any_work(bench: Bench) -> None:
    (bench.folder / "out").write_text("a file in the way; root may write anywhere else")
    with pytest.raises(StoreError, match="the run folder cannot be written") as error:
        bench.run()
    assert error.value.exit_code == 2
    assert not bench.store.exists()


@pytest.mark.parametrize("name", ["report.json", "results.csv", "log.jsonl"])
def test_a_folder_in_place_of_a_file_of_the_run_is_told(bench: Bench, name: str) -> None:
    (bench.folder / "out" / name).mkdir(parents=True)
    with pytest.raises(StoreError, match=rf"{name}: cannot be written: Is a directory"):
        bench.run()


def test_a_run_folder_from_before_is_brought_up_to_date(bench: Bench) -> None:
    bench.run(bench.spec(stages=["nudge"]))
    leftovers = [
        bench.folder / "out" / ".report.json.0123456789abcdef0123456789abcdef",
        bench.folder / "out" / "deployed" / "nudge" / ".light.0123456789abcdef0123456789abcdef",
    ]
    leftovers[0].write_text("half")
    leftovers[1].mkdir()
    (leftovers[1] / "net.safetensors").write_text("half")
    (bench.folder / "out" / ".keep").touch()
    report = bench.run(bench.spec(stages=["nudge"], seed=1))
    assert not any(path.exists() for path in leftovers)
    assert (bench.folder / "out" / ".keep").exists()
    assert same(load_file(bench.folder / "out" / report.rows[1].file), weights(bench, report))


def test_odd_folder_names_are_folder_names(bench: Bench) -> None:
    report = bench.run(out="[/red] größer 夜")
    assert report.folder == bench.folder / "[/red] größer 夜"
    assert json.loads((report.folder / "report.json").read_text())["complete"]


# --- damage between two runs


@pytest.mark.parametrize("shelf", ["steps", "deployed", "measured"])
@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_whatever_was_damaged_is_made_again_and_is_the_same(
    finished: tuple[Bench, Report], tmp_path: Path, shelf: str, how: str
) -> None:
    done, before = finished
    bench = Bench(done.host, tmp_path)
    shutil.copytree(done.store, bench.store)
    for manifest in (bench.store / shelf).rglob("manifest.json"):
        for file in manifest.parent.iterdir() if shelf != "measured" else [manifest]:
            _damage(file, how)
    report = bench.run(bench.spec(stages=["nudge", {"use": "nudge", "epochs": 2}]))
    assert [step.reused for step in report.steps] == [shelf != "steps"] * 3
    assert [row.metrics["accuracy"].value for row in report.rows] == [
        row.metrics["accuracy"].value for row in before.rows
    ]
    for index in range(3):
        assert same(weights(bench, report, index), weights(done, before, index))
    assert any("is damaged and will be made again" in line["event"] for line in bench.log())
    again = bench.run(bench.spec(stages=["nudge", {"use": "nudge", "epochs": 2}]))
    assert all(step.reused for step in again.steps)


def _damage(file: Path, how: str) -> None:
    if how == "remove":
        file.unlink()
        return
    data = bytearray(file.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 0x08
    file.write_bytes(data if how == "flip" else data[: len(data) // 2])


@pytest.mark.parametrize("world", ["2", "many"])
def test_a_run_that_a_launcher_starts_several_times_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, world: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(PqdError, match="a run is one process"):
        bench.run()
