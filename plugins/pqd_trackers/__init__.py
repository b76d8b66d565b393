"""Trackers: what a run does, told to MLflow (`PQD_MLFLOW`) or TensorBoard (`PQD_TENSORBOARD`); silent otherwise.

`PQD_MLFLOW` is a tracking URI (`http://127.0.0.1:5000`, `sqlite:///mlflow.db`), or `default` for MLflow's own choice.
`PQD_TENSORBOARD` is a folder. Both libraries are extras: `pip install 'pqd[mlflow]'`, `pip install 'pqd[tensorboard]'`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pqd_core import PqdError, Problem, hookimpl

if TYPE_CHECKING:
    from pqd_core import Artifact, Report, Step

VARIABLES = {"mlflow": "PQD_MLFLOW", "tensorboard": "PQD_TENSORBOARD"}
"""The environment variable that switches a tracker on, by the library it needs."""


@hookimpl
def pqd_step_started(step: Step) -> None:
    """A step is running from now on."""
    for tracker, place in _switched_on():
        tracker.step_started(step, place)


@hookimpl
def pqd_step_finished(step: Step, artifact: Artifact, reused: bool) -> None:
    """The training curve of the step is known, also when it was run earlier."""
    for tracker, place in _switched_on():
        tracker.step_finished(step, artifact, reused, place)


@hookimpl
def pqd_step_failed(step: Step, error: BaseException) -> None:
    """The step has failed, and why."""
    for tracker, place in _switched_on():
        tracker.step_failed(step, error, place)


@hookimpl
def pqd_run_finished(report: Report) -> None:
    """The numbers of each deployed file are with the step that it came from."""
    for tracker, place in _switched_on():
        tracker.run_finished(report, place)


def _switched_on() -> Iterator[tuple[Any, str]]:
    """Each tracker that the environment asks for, and where it writes."""
    for library, variable in VARIABLES.items():
        if place := os.environ.get(variable):
            try:
                import_module(library)
            except ImportError as error:
                what = f"is set, but {library} cannot be imported ({error})"
                hint = f"pip install 'pqd[{library}]', or unset {variable}"
                raise PqdError(Problem(variable, what, hint)) from error
            yield import_module(f"pqd_trackers.{library}_tracker"), place
