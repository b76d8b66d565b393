from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import Bench
from light import Light
from safetensors.torch import save_file

from pqd_core import RuntimeDef, Settings
from pqd_core.artifact import Store
from pqd_core.deploy import deployment_key
from pqd_core.host.estimate import estimate
from pqd_core.host.parity import Parity, disagrees
from pqd_core.plan import build_plan
from pqd_core.report import Report
from pqd_core.testing.toys import ToyNet


class Wrapped:
    """What `light` does, with changes."""

    def __init__(
        self,
        export: Callable[..., Any] = Light.export,
        answer: Callable[[np.ndarray], np.ndarray] = lambda logits: logits,
    ) -> None:
        self.export, self.answer, self.closed, self.threads = export, answer, 0, list[int]()
        self.weights = Light.weights

    def open_session(self, file: Path, threads: int, settings: Any, batch: int | None = None) -> Any:
        self.threads.append(threads)
        session, outer = Light.open_session(file, threads, settings, batch), self

        class Session:
            def __call__(self, images: np.ndarray) -> np.ndarray:
                return outer.answer(session(images))

            def close(self) -> None:
                outer.closed += 1

        return Session()


@pytest.fixture
def deploying(bench: Bench) -> Callable[..., Report]:
    """Runs a spec that deploys to the given implementation."""

    def run(implementation: Any, stages: Any = (), **changes: Any) -> Report:
        bench.host.add("given", RuntimeDef(name="wrapped", summary="Wrapped.", load=implementation))
        return bench.run(bench.spec(runtimes=["wrapped"], stages=list(stages), **changes))

    return run


def test_the_file_is_compared_with_the_model_on_real_images(deploying: Any) -> None:
    wrapped = Wrapped()
    (row,) = deploying(wrapped, threads=2).rows
    assert row.parity == {"images": 60, "max_abs_difference": 0.0, "changed_predictions": 0.0}
    assert wrapped.threads == [2, 2], "compared, and measured, on the threads of the spec"
    assert wrapped.closed == len(wrapped.threads), "every session gives back what it holds"


def test_a_difference_is_stated_and_a_small_one_is_allowed(deploying: Any) -> None:
    (row,) = deploying(Wrapped(answer=lambda logits: logits + 0.125)).rows
    assert row.parity["max_abs_difference"] == pytest.approx(0.125)
    assert row.parity["changed_predictions"] == 0


def test_a_file_that_predicts_something_else_is_refused_unless_that_is_allowed(deploying: Any) -> None:
    wrapped = Wrapped(answer=lambda logits: -logits)
    report = deploying(wrapped)
    assert (report.rows, report.complete) == ([], False)
    (problem,) = report.problems
    assert problem.startswith("baseline on wrapped: the deployed file predicts another class than its model for 100.0%")
    assert "of 60 images" in problem
    assert "raise max_disagreement" in problem
    assert deploying(wrapped, max_disagreement=1.0).complete


@pytest.mark.parametrize(
    ("images", "changed", "limit", "refused"),
    [
        (512, 21, 0.02, False),
        (512, 22, 0.02, True),
        (60, 5, 0.02, False),
        (60, 8, 0.02, True),
        (512, 0, 0.0, False),
        (512, 1, 0.0, True),
        (512, 512, 1.0, False),
        (1, 1, 0.02, False),
    ],
)
def test_few_images_do_not_refuse_a_file_by_chance(images: int, changed: int, limit: float, refused: bool) -> None:
    assert disagrees(Parity(images, 1.0, changed / images), limit) is refused


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_that_answers_no_numbers_is_refused(deploying: Any, value: float) -> None:
    report = deploying(Wrapped(answer=lambda logits: np.full_like(logits, value)))
    assert "predicts another class than its model for 100.0%" in report.problems[0]


def test_a_network_that_has_diverged_is_told_as_such_and_not_as_a_file_that_disagrees(
    deploying: Any, tmp_path: Path
) -> None:
    state = {
        name: value * (np.nan if value.is_floating_point() else 1) for name, value in ToyNet(1, 3).state_dict().items()
    }
    save_file(state, tmp_path / "diverged.safetensors")
    report = deploying(Wrapped(), baseline={"checkpoint": str(tmp_path / "diverged.safetensors")}, max_disagreement=1)
    (problem,) = report.problems
    assert "the network's own outputs are not finite; train with a lower learning rate" in problem


def test_a_session_is_closed_when_it_fails(deploying: Any) -> None:
    def fail(logits: np.ndarray) -> np.ndarray:
        raise RuntimeError("bad instruction")

    wrapped = Wrapped(answer=fail)
    report = deploying(wrapped)
    assert report.problems == ["baseline on wrapped: cannot be deployed (RuntimeError: bad instruction)"]
    assert wrapped.closed == 1


def raising(error: Exception) -> Callable[..., Any]:
    def export(*_: Any) -> Any:
        raise error

    return export


@pytest.mark.parametrize(
    ("export", "reason"),
    [
        (
            raising(NotImplementedError("no kernel for this\nand a long story")),
            "NotImplementedError: no kernel for this)",
        ),
        (raising(FileNotFoundError(2, "No such file")), "FileNotFoundError"),
        (lambda *_: None, "AttributeError"),
        (lambda model, example, folder, shared, settings: folder / "nothing", "cannot be deployed"),
        (
            lambda model, example, folder, shared, settings: Light.export(model, example, shared, shared, settings),
            "ValueError",
        ),
    ],
)
def test_a_model_that_a_runtime_cannot_take_is_told_and_the_other_runtimes_stay(
    bench: Bench, export: Any, reason: str
) -> None:
    bench.host.add("given", RuntimeDef(name="wrapped", summary="Wrapped.", load=Wrapped(export)))
    report = bench.run(bench.spec(runtimes=["wrapped", "light"]))
    assert [row.runtime for row in report.rows] == ["light", "light"]
    assert not report.complete
    assert len(report.problems) == 2
    assert report.problems[1].startswith("nudge on wrapped: cannot be deployed (")
    assert reason in report.problems[1]
    assert list((bench.store / "aside").iterdir()) == []


def test_runtimes_of_one_network_share_a_folder_and_freeze_it_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[int, Path, bool]] = []

    def export(model: Any, example: Any, folder: Path, shared: Path, settings: Any) -> Path:
        shares.append((id(model), shared, (shared / "made").exists()))
        (shared / "made").touch()
        return Light.export(model, example, folder, shared, settings)

    for name in ("one", "two"):
        bench.host.add("given", RuntimeDef(name=name, summary="One.", load=Wrapped(export)))
    bench.run(bench.spec(runtimes=["one", "two"], stages=[]))
    (model, shared, first), (model_again, shared_again, second) = shares
    assert (model, shared) == (model_again, shared_again)
    assert (first, second) == (False, True)
    assert not shared.exists()


def test_the_example_has_two_images_and_the_model_is_in_eval_mode(deploying: Any) -> None:
    seen: list[Any] = []

    def export(model: Any, example: Any, *rest: Any) -> Path:
        seen.append((tuple(example.shape), model.training))
        return Light.export(model, example, *rest)

    deploying(Wrapped(export))
    assert seen == [((2, 1, 8, 8), False)]


def test_a_file_below_folders_is_found_where_the_report_says(deploying: Any, bench: Bench) -> None:
    def export(model: Any, example: Any, folder: Path, shared: Path, settings: Any) -> Path:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "weights.bin").write_bytes(b"beside")
        return Light.export(model, example, folder / "deep" / "er", shared, settings)

    (row,) = deploying(Wrapped(export)).rows
    assert row.file == Path("deployed/baseline/wrapped/deep/er/net.safetensors")
    assert (bench.folder / "out" / row.file).is_file()
    assert (bench.folder / "out/deployed/baseline/wrapped/deep/weights.bin").read_bytes() == b"beside"


def test_a_deployments_key_changes_with_the_step_the_runtime_and_the_versions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(threads: int = 1, **changes: Any) -> list[str]:
        spec = bench.spec(**changes)
        (runtime,) = spec.runtimes or ()
        return [deployment_key(step, runtime, threads) for step in build_plan(spec, bench.host).steps]

    before = keys()
    assert len(set(before)) == 2
    assert keys(threads=2, max_disagreement=0.5) == before
    assert not set(keys(runtimes=["toy-torch"])) & set(before)
    assert not set(keys(seed=1)) & set(before)
    bench.host.add("light", RuntimeDef(name="light", summary="Newer.", load=Light, version="2"))
    assert not set(keys()) & set(before)
    bench.host.add("light", RuntimeDef(name="light", summary="As before.", load=Light, tuned_to=lambda *_: {}))
    assert keys() == before
    monkeypatch.setattr("pqd_core.deploy.package_version", lambda name: "99.0")
    assert not set(keys()) & set(before)


class Fast(Settings):
    """What `Light` does, tuned or not."""

    tuned: bool = False


def test_a_tuned_file_is_made_again_where_what_it_is_tuned_to_has_changed(bench: Bench) -> None:
    exports, machine = list[str](), {"cpu": "one"}

    def export(*arguments: Any) -> Path:
        exports.append(machine["cpu"])
        return Light.export(*arguments)

    def tuned_to(settings: Fast, threads: int) -> dict[str, Any]:
        return {**machine, "threads": threads} if settings.tuned else {}

    fast = RuntimeDef(name="fast", summary="Tuned.", load=Wrapped(export), settings=Fast, tuned_to=tuned_to)
    bench.host.add("given", fast)

    def files_made(tuned: bool, threads: int = 1) -> int:
        before, spec = len(exports), bench.spec(runtimes=[{"use": "fast", "tuned": tuned}], stages=[], threads=threads)
        assert bench.run(spec).complete
        return len(exports) - before

    assert [files_made(tuned) for tuned in (False, True, True)] == [1, 1, 0]
    assert [files_made(tuned, threads=2) for tuned in (False, True)] == [0, 1]
    machine["cpu"] = "another"
    assert [files_made(tuned) for tuned in (False, True)] == [0, 1]
    machine["cpu"] = "one"
    assert files_made(tuned=True) == 0, "back on the first machine its file is there again"


def test_a_plan_looks_for_a_tuned_file_where_the_run_has_put_it(bench: Bench) -> None:
    machine = {"cpu": "one"}

    def tuned_to(settings: Any, threads: int) -> dict[str, Any]:
        return {**machine, "threads": threads}

    def seconds_to_go() -> float:
        found = estimate(build_plan(spec, bench.host), Store(bench.store), bench.host)
        assert found is not None
        return found.seconds

    bench.host.add("given", RuntimeDef(name="fast", summary="Tuned.", load=Light, tuned_to=tuned_to))
    spec = bench.spec(runtimes=["fast"], stages=[], device="cpu", threads=2)
    bench.run(spec)
    assert seconds_to_go() == 0
    machine["cpu"] = "another"
    assert seconds_to_go() > 0


def test_a_runtime_that_cannot_tell_what_it_is_tuned_to_hinders_no_other(bench: Bench) -> None:
    def tuned_to(settings: Any, threads: int) -> dict[str, Any]:
        raise ValueError("no such CPU")

    bench.host.add("given", RuntimeDef(name="lost", summary="Lost.", load=Light, tuned_to=tuned_to))
    spec = bench.spec(runtimes=["lost", "light"], stages=[], device="cpu")
    report = bench.run(spec)
    assert [row.runtime for row in report.rows] == ["light"]
    assert "does not tell what its files are tuned to (ValueError: no such CPU)" in str(report.problems)
    found = estimate(build_plan(spec, bench.host), Store(bench.store), bench.host)
    assert found is not None
    assert found.runtimes_unknown == ("lost",), "and the plan can be shown"


def test_the_toy_runtime_runs_an_exported_program(bench: Bench) -> None:
    (row,) = bench.run(bench.spec(runtimes=["toy-torch"], stages=[])).rows
    assert row.parity["max_abs_difference"] < 1e-5
    assert row.metrics["accuracy"].value is not None
