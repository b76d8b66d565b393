"""MLflow: one run for each step, with its settings, its training curve and the numbers of its deployed files.

A step is looked up by its content key, so that running again adds to the runs that are there. Nothing but the client is
used: no global run is started, and another use of MLflow in the same process is not disturbed.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from pqd_trackers import told

if TYPE_CHECKING:
    from pqd_core import Artifact, Report, Step

EXPERIMENT = "pqd"
KEY = "pqd.step"
DEFAULT = "default"
LONGEST_PARAMETER = 500


def step_started(step: Step, place: str) -> None:
    """A run for the step is there, and running."""
    client, run = _client(place), _run(step, place)
    client.update_run(run, status="RUNNING")


def step_finished(step: Step, artifact: Artifact, reused: bool, place: str) -> None:
    """The run holds the training curve and has finished; one that was complete before stays as it is."""
    client, run = _client(place), _run(step, place)
    if client.get_run(run).info.status == "FINISHED":
        return
    client.log_batch(run, _metrics((n, name, v) for n, values in told.curve(artifact) for name, v in values.items()))
    client.log_metric(run, "seconds", float(artifact.about["seconds"]))
    client.set_terminated(run, "FINISHED")


def step_failed(step: Step, error: BaseException, place: str) -> None:
    """The run has failed, and says why."""
    client, run = _client(place), _run(step, place)
    client.set_tag(run, "pqd.error", f"{type(error).__name__}: {error}"[:LONGEST_PARAMETER])
    client.set_terminated(run, "FAILED")


def run_finished(report: Report, place: str) -> None:
    """Each run has the numbers of the files that came from its step, and the last one the whole report."""
    client, run = _client(place), None
    for row in report.rows:
        if run := _find(row.step, place):
            client.log_batch(run, _metrics((0, name, value) for name, value in told.numbers(row).items()))
            client.set_tag(run, "pqd.title", report.title)
    if run:
        client.log_text(run, report.table(), "report.txt")
        client.log_text(run, report.model_dump_json(indent=1), "report.json")


@cache
def _client(place: str) -> MlflowClient:
    return MlflowClient(tracking_uri=None if place == DEFAULT else place)


@cache
def _experiment(place: str) -> str:
    client = _client(place)
    found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id if found else client.create_experiment(EXPERIMENT))


def _find(key: str, place: str) -> str | None:
    found = _client(place).search_runs([_experiment(place)], f"tags.`{KEY}` = '{key}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _run(step: Step, place: str) -> str:
    """The run of a step, made if there is none."""
    if found := _find(step.key, place):
        return found
    client = _client(place)
    run = str(client.create_run(_experiment(place), run_name=told.title(step)).info.run_id)
    tags = {
        KEY: step.key,
        "pqd.parent": step.parent or "",
        "pqd.pipeline": step.label,
        "pqd.stage": step.name,
        "pqd.plugin": f"{step.stage.plugin} {step.stage.record.version}" if step.stage else "core",
    }
    params = [Param(name, value[:LONGEST_PARAMETER]) for name, value in told.settings(step).items()]
    client.log_batch(run, params=params, tags=[RunTag(name, value) for name, value in tags.items()])
    return run


def _metrics(numbers: Any) -> list[Metric]:
    """(step, name, value) as MLflow wants them."""
    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for step, name, value in numbers]
