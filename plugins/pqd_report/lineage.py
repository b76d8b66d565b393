"""The steps of a report as pipelines: whose child each is, of which seed, and when its training begins."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from pqd_core import Report, StepRecord


@frozen
class Stretch:
    """One step, the pipeline that it ends, and the epochs that lie before it."""

    step: StepRecord
    pipeline: tuple[str, ...]
    seed: int | None
    begins: int


def stretches(report: Report) -> Iterator[Stretch]:
    """Each step with its place in the tree, parents before children."""
    seeds, pipelines = ({row.step: getattr(row, key) for row in report.rows} for key in ("seed", "pipeline"))
    done: dict[str, Stretch] = {}
    for step in report.steps:
        parent = done.get(step.parent or "")
        pipeline = (*parent.pipeline, step.stage) if parent else ()
        done[step.key] = Stretch(
            step,
            pipelines.get(step.key, pipeline),
            seeds.get(step.key, parent.seed if parent else None),
            parent.begins + parent.step.epochs if parent else 0,
        )
        yield done[step.key]
