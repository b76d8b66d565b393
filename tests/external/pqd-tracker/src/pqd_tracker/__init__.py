"""A tracker in a file, and a number of its own: the measurer `entropy`, and observers of steps and runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pqd_core import MeasurerDef, MetricDef, hookimpl

if TYPE_CHECKING:
    from pqd_core import Report

ENTROPY = MetricDef("entropy_bits", "bits", "lower")
FILE = "PQD_TRACKER_FILE"


@hookimpl
def pqd_measurers() -> Iterable[MeasurerDef]:
    """One measurer."""
    yield MeasurerDef(
        name="entropy",
        summary="Entropy of the stored weights, in bits for each: what a perfect coder would need.",
        load="pqd_tracker.entropy",
        metrics=(ENTROPY,),
    )


def note(**event: Any) -> None:
    """One more line in the file that PQD_TRACKER_FILE names; nothing if it names none."""
    if name := os.environ.get(FILE):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, sort_keys=True) + "\n")


@hookimpl
def pqd_step_finished(step: Any, reused: bool) -> None:
    """A line for each step."""
    note(event="step", pipeline=list(step.pipeline), key=step.key, reused=reused)


@hookimpl
def pqd_run_finished(report: Report) -> None:
    """A line for each row of the table."""
    for row in report.rows:
        note(event="row", pipeline=list(row.pipeline), runtime=row.runtime, entropy_bits=row.value(ENTROPY.name))
