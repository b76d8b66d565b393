"""Trackers tell a run's settings, curves and numbers to real MLflow and TensorBoard, and are silent unless asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pqd_trackers
from pqd_core import Report, run
from pqd_core.host.read_spec import parse_spec
from pqd_core.testing import toy_host, toy_spec

STAGES = [{"use": "toy-tune", "epochs": 2}]


def finished(folder: Path) -> Report:
    """A run of toys under the eyes of the trackers."""
    host = toy_host(pqd_trackers)
    return run(parse_spec(toy_spec(stages=STAGES), host), folder / "run", store=folder / "store", host=host)


def test_trackers_are_silent_and_load_nothing_unless_they_are_asked(tmp_path: Path) -> None:
    before = set(sys.modules)
    assert finished(tmp_path).problems == []
    assert not {"mlflow", "tensorboard"} & (set(sys.modules) - before)


@pytest.mark.parametrize(("library", "variable"), list(pqd_trackers.VARIABLES.items()))
def test_a_tracker_without_its_library_says_how_to_install_it_and_the_run_goes_on(
    library: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    monkeypatch.setitem(sys.modules, library, None)
    report = finished(tmp_path)
    assert len(report.rows) == 2
    assert any(f"pip install 'pqd[{library}]'" in problem for problem in report.problems)


# --- MLflow, with a server of its own


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on loopback, with its database in a fresh folder."""
    pytest.importorskip("mlflow", reason="needs the extra mlflow; tox -e trackers has it")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # nothing but tracking is asked of it
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail("the server does not answer")


def runs_of(address: str) -> dict[str, Any]:
    """The runs that the server knows, by pipeline."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("pqd")
    assert experiment is not None
    return {found.data.tags["pqd.pipeline"]: found for found in client.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def tracked(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Report]:
    """The server after one run, the run's folder, and its report."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PQD_MLFLOW", server)
        return server, folder, finished(folder)


def test_the_server_gives_back_the_numbers_of_the_report(tracked: tuple[str, Path, Report]) -> None:
    server, _, report = tracked
    assert report.problems == []
    runs = runs_of(server)
    assert set(runs) == {"baseline", "toy-tune"}
    for row in report.rows:
        found = runs["+".join(row.pipeline) or "baseline"]
        assert found.data.metrics["toy-torch/accuracy"] == row.value("accuracy")
        assert found.data.tags["pqd.step"] == row.step
        assert found.info.status == "FINISHED"


def test_the_server_gives_back_settings_and_training_curves(tracked: tuple[str, Path, Report]) -> None:
    from mlflow import MlflowClient

    server, _, report = tracked
    found = runs_of(server)["toy-tune"]
    assert found.data.params["use"] == "toys:toy-tune"
    assert found.data.params["training.lr"] == "0.02"
    assert found.data.params["epochs"] == "2"
    client = MlflowClient(tracking_uri=server)
    curve = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.value for point in curve] == [entry["loss"] for entry in report.steps[1].history]
    assert [point.step for point in curve] == [1, 2]
    assert "report.txt" in [file.path for file in client.list_artifacts(found.info.run_id)]


def test_running_again_adds_no_second_run(tracked: tuple[str, Path, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    server, folder, _ = tracked
    monkeypatch.setenv("PQD_MLFLOW", server)
    assert finished(folder).problems == []
    assert len(runs_of(server)) == 2


def test_a_step_that_fails_is_a_failed_run_with_its_reason(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pqd_core.testing.toys import ToyTune

    def fails(*_: Any) -> None:
        raise ValueError("no luck")

    monkeypatch.setattr(ToyTune, "run", fails)
    monkeypatch.setenv("PQD_MLFLOW", server)
    with pytest.raises(Exception, match="no luck"):
        run_other_seed(tmp_path)
    failed = runs_of_status(server, "FAILED")
    assert [found.data.tags["pqd.error"] for found in failed] == ["ValueError: no luck"]


def run_other_seed(folder: Path) -> None:
    host = toy_host(pqd_trackers)
    run(parse_spec(toy_spec(seed=1), host), folder / "run", store=folder / "store", host=host)


def runs_of_status(address: str, status: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("pqd")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"attributes.status = '{status}'"))


# --- TensorBoard


def test_the_event_files_give_back_the_numbers_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the extra tensorboard; tox -e trackers has it",
    )
    monkeypatch.setenv("PQD_TENSORBOARD", str(tmp_path / "events"))
    report = finished(tmp_path)
    assert report.problems == []
    folders = sorted((tmp_path / "events").iterdir())
    assert [folder.name.partition("-seed")[0] for folder in folders] == ["baseline", "toy-tune"]
    for folder, row, step in zip(folders, report.rows, report.steps, strict=True):
        events = accumulators.EventAccumulator(str(folder)).Reload()
        assert events.Scalars("toy-torch/accuracy")[0].value == pytest.approx(row.value("accuracy"))
        losses = [event.value for event in events.Scalars("train/loss")]
        assert losses == pytest.approx([entry["loss"] for entry in step.history])
        assert "settings/text_summary" in events.Tags()["tensors"]


def test_running_again_writes_no_curve_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the extra tensorboard; tox -e trackers has it",
    )
    monkeypatch.setenv("PQD_TENSORBOARD", str(tmp_path / "events"))
    for _ in range(2):
        finished(tmp_path)
    folder = next(folder for folder in (tmp_path / "events").iterdir() if folder.name.startswith("toy-tune"))
    assert len(accumulators.EventAccumulator(str(folder)).Reload().Scalars("train/loss")) == 2
