"""Latency of deployed files: each in processes of its own, all of them in turns. docs/latency.md says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, log
from pathlib import Path
from typing import Any

import numpy as np

from pqd_core import Deployed, MeasureContext, Measurement, MetricDef, eval_batches
from pqd_measure import TIMED_METRICS, LatencySettings
from pqd_measure.cells import missing, number
from pqd_measure.estimates import SPREAD_IS, latency
from pqd_measure.findings import HOW, SCALED, Found, Missing, caution, details, drift, findings, provenance
from pqd_measure.rounds import groups_with_references
from pqd_measure.side_by_side import Subject, Timed, time_side_by_side

IMAGES = 64
"""How many different images the inferences take turns with, unless one batch is larger."""


def measure(
    candidates: Sequence[Deployed], settings: LatencySettings, context: MeasureContext
) -> list[list[Measurement]]:
    """For each candidate its times, their ratio to the dense network's, its memory and its energy."""
    threads = settings.threads or context.threads
    images = save_images(context, settings.batch)
    references = [reference_of(candidate, candidates) for candidate in candidates]
    cells: dict[int, list[Measurement]] = {}
    first: dict[int, Timed] = {}
    for group in groups_with_references(references, settings.at_once):
        timed = _timed({index: candidates[index] for index in group}, images, settings, threads, context)
        timed = on_first_scale(timed, references, first, settings.seed)
        for index in group:
            found = findings(timed[index], _against(candidates[index], references[index], timed), settings)
            cells.setdefault(index, _measurements(found, timed[index], settings, threads))
    return [cells[index] for index in range(len(candidates))]


def on_first_scale(
    timed: Mapping[int, Timed], references: Sequence[int | None], first: dict[int, Timed], seed: int
) -> dict[int, Timed]:
    """A group's times, as if it had been timed when its references were for the first time (`first` remembers that).

    A machine's speed changes from minute to minute, often by more than what is to be seen. Within a group that hits
    all alike; between groups only the dense networks, which are timed in each, tell of it.
    """
    drifts: dict[int | None, tuple[float, float]] = {}
    for reference in {reference for index in timed if (reference := references[index]) is not None}:
        now = timed[reference]
        if now.failure is None and (before := first.setdefault(reference, now)) is not now:
            then, here = (latency(one.times_ms, seed) for one in (before, now))
            drifts[reference] = then.value / here.value, hypot(log(then.high / then.value), log(here.high / here.value))
    return {
        index: one if one.failure is not None else one.scaled(*drifts.get(references[index], (1.0, 0.0)))
        for index, one in timed.items()
    }


def save_images(context: MeasureContext, batch: int) -> Path:
    """A file of real test images, normalized float32 (a multiple of `batch`, C, H, W)."""
    wanted = max(batch, IMAGES // batch * batch)
    data = context.data
    parts = [part.inputs.numpy() for part in eval_batches(data.test, data.info, wanted, limit=wanted)]
    file = context.scratch / "images.npy"
    # resize starts over where the test set is smaller than a batch
    np.save(file, np.resize(np.concatenate(parts), (wanted, *data.info.shape)))
    return file


def reference_of(candidate: Deployed, candidates: Sequence[Deployed]) -> int | None:
    """Index of the dense network in the same runtime with the same settings, of the same seed if there is one."""
    dense = [
        index
        for index, other in enumerate(candidates)
        if not other.pipeline and (other.runtime, other.settings) == (candidate.runtime, candidate.settings)
    ]
    same_seed = [index for index in dense if candidates[index].seed == candidate.seed]
    return next(iter(same_seed or dense), None)


def _timed(
    group: dict[int, Deployed], images: Path, settings: LatencySettings, threads: int, context: MeasureContext
) -> dict[int, Timed]:
    """All of the group timed side by side; one that another process cannot be told of has failed."""
    subjects, failed = dict[int, Subject](), dict[int, Timed]()
    for index, deployed in group.items():
        try:
            load, file, of_runtime = context.worker(deployed)
            subjects[index] = Subject(Path(file), load, of_runtime, images)
        except Exception as error:
            failed[index] = Timed(failure=f"cannot be opened in a process of its own: {error}")
    return failed | time_side_by_side(subjects, settings, threads, context.scratch)


def _against(candidate: Deployed, reference: int | None, timed: dict[int, Timed]) -> Timed | Missing:
    if reference is None:
        return Missing(f"no dense network was deployed to {candidate.runtime} to compare with")
    return timed[reference]


def _measurements(found: dict[str, Found], timed: Timed, settings: LatencySettings, threads: int) -> list[Measurement]:
    if timed.failure is not None:
        # `error` keeps the core from storing it as this file's result
        return [missing(metric, timed.failure, error=True) for metric in TIMED_METRICS]
    how, more = provenance(timed, settings, threads), details(timed)
    doubts, drifted = caution(timed, found, settings), drift(timed, settings)
    cells = []
    for metric in TIMED_METRICS:
        told = [doubt for doubt in (doubts, drifted if metric.name in SCALED else None) if doubt]
        cautioned = {"caution": "; ".join(told)} if told else {}
        cells.append(_cell(metric, found[metric.name], timed, how | more.get(metric.name, {}) | cautioned))
    return cells


def _cell(metric: MetricDef, finding: Found, timed: Timed, how: dict[str, Any]) -> Measurement:
    if isinstance(finding, Missing):
        return missing(metric, finding.reason, **({"error": True} if finding.error else {}))
    observed = {"interval": [finding.low, finding.high], "spread_is": SPREAD_IS}
    if metric.name in HOW:
        observed["measured"] = HOW[metric.name]
    return number(metric, finding.value, spread=finding.spread, n=_observations(metric.name, timed), **observed, **how)


def _observations(metric: str, timed: Timed) -> int:
    """How many numbers a metric rests on: inferences, rounds or processes."""
    if metric in ("load_ms", "first_ms", "memory_bytes"):
        return len(timed.visits)
    rounds = sum(len(visit.turns) for visit in timed.visits)
    return rounds if metric in ("latency_ratio", "energy_mj") else int(timed.times_ms.size)
