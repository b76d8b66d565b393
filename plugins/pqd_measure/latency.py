"""Latency of deployed files: each in a process of its own, all of them in turns. docs/latency.md says why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pqd_core import Deployed, MeasureContext, Measurement, MetricDef, eval_batches
from pqd_measure import LATENCY, LATENCY_P95, LATENCY_RATIO, THROUGHPUT, LatencySettings, rounds
from pqd_measure.bench import Bench, Candidate, time_together
from pqd_measure.cells import missing, number
from pqd_measure.cores import pick_cpus, usable_cpus

METRICS = (LATENCY, LATENCY_P95, LATENCY_RATIO, THROUGHPUT)
IMAGES = 64
"""How many different images the inferences take turns with, unless one batch is larger."""
SPREAD = "half of the 95 % bootstrap interval, whole rounds resampled"
ISOLATION = "a fresh process per file, all files in rounds of shuffled order"


def measure(
    candidates: Sequence[Deployed], settings: LatencySettings, context: MeasureContext
) -> list[list[Measurement]]:
    """For each candidate its latency, 95th percentile, ratio to the dense network and throughput."""
    threads = settings.threads or context.threads
    images = save_images(context, settings.batch)
    bench = Bench(settings, context, images, threads, pick_cpus(threads, usable_cpus()))
    references = [reference_of(candidate, candidates) for candidate in candidates]
    cells: dict[int, list[Measurement]] = {}
    for group in rounds.groups_with_references(references, settings.at_once):
        timed = time_together({index: candidates[index] for index in group}, bench)
        for index in group:
            against = None if (reference := references[index]) is None else timed[reference]
            cells.setdefault(index, _measurements(timed[index], against, bench))
    return [cells[index] for index in range(len(candidates))]


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


def _measurements(candidate: Candidate, reference: Candidate | None, bench: Bench) -> list[Measurement]:
    if candidate.failure is not None:
        # `error` keeps the core from storing it as this file's result
        return [missing(metric, candidate.failure, error=True) for metric in METRICS]
    times_ms, seed, n = candidate.times_ms, bench.settings.seed, candidate.times_ms.size
    how = _provenance(candidate, bench)
    by_round = {"round_medians_ms": np.median(times_ms, axis=1).round(4).tolist()}
    return [
        _cell(LATENCY, rounds.latency(times_ms, seed), n, how | by_round),
        _cell(LATENCY_P95, rounds.latency_p95(times_ms, seed), n, how),
        _ratio(candidate, reference, seed, how),
        _cell(THROUGHPUT, rounds.throughput(times_ms, bench.settings.batch, seed), n, how),
    ]


def _ratio(candidate: Candidate, reference: Candidate | None, seed: int, how: dict[str, Any]) -> Measurement:
    if reference is None:
        return missing(LATENCY_RATIO, f"no dense network was deployed to {candidate.deployed.runtime} to compare with")
    if reference.failure is not None:
        return missing(LATENCY_RATIO, f"the dense network was not timed: {reference.failure}", error=True)
    estimate = rounds.paired_ratio(candidate.times_ms, reference.times_ms, seed)
    against = "the dense network in the same runtime, round by round"
    return _cell(LATENCY_RATIO, estimate, len(candidate.turns), how | {"against": against})


def _cell(metric: MetricDef, estimate: rounds.Estimate, n: int, how: dict[str, Any]) -> Measurement:
    interval = [estimate.low, estimate.high]
    return number(metric, estimate.value, spread=estimate.spread, n=n, spread_is=SPREAD, interval=interval, **how)


def _provenance(candidate: Candidate, bench: Bench) -> dict[str, Any]:
    return {
        "threads": bench.threads,
        "batch": bench.settings.batch,
        "rounds": len(candidate.turns),
        "timed_per_round": len(candidate.turns[0]["times_ms"]),
        "steady": candidate.warm["steady"],
        "warmup_inferences": candidate.warm["inferences"],
        "warmup_s": round(candidate.warm["seconds"], 3),
        "preempted": candidate.preempted,
        "cpus": candidate.pinned,
        "isolation": ISOLATION,
        "order_seed": bench.settings.seed,
    }
