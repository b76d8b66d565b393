"""TensorBoard: a folder of events for each step, with its settings, its training curve and its files' numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

from pqd_trackers import told

if TYPE_CHECKING:
    from pqd_core import Artifact, Report, Step

FOLDERS: dict[str, str] = {}
"""The folder's name of each step of this run, by the step's key."""


def step_started(step: Step, place: str) -> None:
    """Nothing to show yet."""


def step_finished(step: Step, artifact: Artifact, reused: bool, place: str) -> None:
    """The folder holds the settings and the training curve; one that was complete before stays as it is."""
    FOLDERS[step.key] = told.title(step)
    if not (Path(place) / FOLDERS[step.key]).is_dir():
        scalars = [(name, value, epoch) for epoch, values in told.curve(artifact) for name, value in values.items()]
        table = "\n".join(f"    {name}: {value}" for name, value in told.settings(step).items())
        _write(step.key, place, scalars, {"settings": table})


def step_failed(step: Step, error: BaseException, place: str) -> None:
    """The reason is there to read."""
    FOLDERS[step.key] = told.title(step)
    _write(step.key, place, [], {"error": f"{type(error).__name__}: {error}"})


def run_finished(report: Report, place: str) -> None:
    """Each folder has the numbers of the files that came from its step, and the last one the whole report's table."""
    for row in report.rows:
        _write(row.step, place, [(name, value, 0) for name, value in told.numbers(row).items()], {})
    if report.rows:
        table = "\n".join(f"    {line}" for line in report.table().splitlines())
        _write(report.rows[-1].step, place, [], {"report": table})
    FOLDERS.clear()


def _write(key: str, place: str, scalars: Iterable[tuple[str, float, int]], texts: dict[str, str]) -> None:
    writer = SummaryWriter(str(Path(place) / FOLDERS.get(key, key[:8])))
    for name, value, epoch in scalars:
        writer.add_scalar(name, value, epoch)
    for name, text in texts.items():
        writer.add_text(name, text)
    writer.close()
