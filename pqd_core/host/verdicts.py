"""What the numbers say, in plain sentences; also where there is no gain, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import hypot
from typing import TYPE_CHECKING

from pqd_core.host.render import columns, counted, quantity

if TYPE_CHECKING:
    from pqd_core.host.entries import Entry
    from pqd_core.plan import Plan
    from pqd_core.report import Metric, Report, Row

SAME_RATIO = 0.05
"""Ratios nearer to 1 than this are no change worth a word, whatever their spread."""


def make_verdicts(report: Report, plan: Plan) -> list[str]:
    """For each whole pipeline what it came to, then each stage that made something worse or gained nothing."""
    whole = {step.key for step in plan.steps} - {step.parent for step in plan.steps}
    sentences = [_summary(report, row) for row in report.rows if row.pipeline and row.step in whole]
    for step in plan.steps:
        if step.stage:
            sentences += _by_metric(report, step.stage, [row for row in report.rows if row.step == step.key])
    return sentences


def _summary(report: Report, row: Row) -> str:
    dense, parts = report.dense(row), []
    for name in columns(report):
        now, before = row.metrics.get(name), dense.metrics.get(name) if dense else None
        if now and before and now.value is not None and before.value and now.better != "neither":
            parts.append(f"{name} {_change(before, now)}")
    return f"{row.label} on {row.runtime}, against the dense network: {', '.join(parts) or 'nothing to compare'}"


def _change(before: Metric, now: Metric) -> str:
    assert before.value is not None
    assert now.value is not None
    if now.unit == "1":
        points = f"{(now.value - before.value) * 100:+.2f} points"
        of = f" of {counted(now.n, 'observation')}" if now.n else ""
        return points if _beyond_noise(before, now) else f"{points} (within the noise{of})"
    return f"{now.value / before.value:.2f}x"


def _row_before(report: Report, row: Row) -> Row | None:
    same = (r for r in report.rows if (r.pipeline, r.runtime, r.seed) == (row.pipeline[:-1], row.runtime, row.seed))
    return next(same, None) if row.pipeline else None


def _by_metric(report: Report, stage: Entry, rows: Sequence[Row]) -> Iterator[str]:
    """One sentence for each metric and outcome, over all runtimes that agree."""
    for name in columns(report):
        found: dict[str, list[str]] = {}
        for row in rows:
            before = _row_before(report, row)
            old, new = before.metrics.get(name) if before else None, row.metrics.get(name)
            if old and new and old.value is not None and new.value is not None and new.better != "neither":
                values = f"{quantity(old.value, old.unit)} to {quantity(new.value, new.unit)} on {row.runtime}"
                found.setdefault(_outcome(old, new), []).append(values)
        reason = stage.record.no_gain.get(name)
        because = f": {reason}" if reason else ""
        if "worse" in found:
            yield f"{rows[0].label}: {stage.name} made {name} worse, {' and '.join(found['worse'])}{because}"
        if "same" in found and reason:
            yield f"{rows[0].label}: {stage.name} left {name} where it was, {' and '.join(found['same'])}{because}"


def _outcome(old: Metric, new: Metric) -> str:
    if not _changed(old, new):
        return "same"
    assert old.value is not None
    assert new.value is not None
    return "worse" if (new.value > old.value) == (new.better == "lower") else "better"


def _changed(old: Metric, new: Metric) -> bool:
    assert old.value is not None
    assert new.value is not None
    small = new.unit != "1" and old.value and abs(new.value / old.value - 1) < SAME_RATIO
    return not small and _beyond_noise(old, new)


def _beyond_noise(old: Metric, new: Metric) -> bool:
    """Further apart than the half 95 % interval of a difference of independent numbers; spreads are such halves."""
    assert old.value is not None
    assert new.value is not None
    return abs(new.value - old.value) > hypot(old.spread or 0.0, new.spread or 0.0)
