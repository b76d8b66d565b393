"""Tasks beyond one class for each image: `multi-label` and `regression`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pqd_core import Settings, TaskDef, hookimpl


class MultiLabelSettings(Settings):
    """When a label counts as given."""

    threshold: float = Field(0.5, gt=0, lt=1, description="Probability from which a label is given.")


class RegressionSettings(Settings):
    """When two networks say the same."""

    tolerance: float = Field(
        0.05, gt=0, description="Largest difference, in any output, of two answers that count as the same."
    )


@hookimpl
def pqd_tasks() -> Iterable[TaskDef]:
    """Two tasks; their labels are float32 (N, outputs)."""
    yield TaskDef(
        name="multi-label",
        summary="Any number of labels for each image, each a yes or no: sigmoid and binary cross-entropy.",
        settings=MultiLabelSettings,
        load="pqd_tasks.multi_label:MultiLabel",
    )
    yield TaskDef(
        name="regression",
        summary="Numbers for each image: squared error, and accuracy as the share of variance explained.",
        settings=RegressionSettings,
        load="pqd_tasks.regression:Regression",
    )
