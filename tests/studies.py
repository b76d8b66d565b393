"""Studies to look at: rows as a study of every order of every subset gives them, from one measured run.

Each pipeline's numbers are those of the quickstart's dense network, changed by what each stage is said to do at its
position and by a seeded noise that pipelines with the same beginning share, as they share its training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np

from pqd_core.host.analysis import analyse
from pqd_core.host.rows import DENSE, Metric, Pipeline, Row, StepRecord
from pqd_core.host.verdicts import make_verdicts
from pqd_core.report import Report

MEASURED = Path(__file__).parent / "data" / "report_version_1.json"
"""A report as a real run wrote it once; a fixture of its own, so that new results change no test."""
STAGES: Pipeline = ("magnitude", "int8-qat", "logit-kd")
GAINS = {
    "magnitude": {"accuracy": -0.004, "latency_ms": 1.0, "size_bytes": 1.0},
    "int8-qat": {"accuracy": -0.006, "latency_ms": 0.62, "size_bytes": 0.27},
    "logit-kd": {"accuracy": 0.005, "latency_ms": 1.0, "size_bytes": 1.0},
}
LATE = {"magnitude": -0.02}
"""Accuracy that a stage costs for each stage before it."""
REASONS = {"magnitude": {"latency_ms": "the runtime runs dense kernels"}}


def full(stages: Sequence[str] = STAGES) -> list[Pipeline]:
    """The dense network, and every order of every subset, parents before children."""
    return [DENSE, *(p for size in range(1, len(stages) + 1) for p in permutations(stages, size))]


@cache
def measured() -> dict[str, Any]:
    """That report."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def study(
    seeds: Sequence[int] = (0, 1, 2),
    *,
    pipelines: Sequence[Pipeline] | None = None,
    runtimes: Sequence[str] = ("onnxruntime", "openvino"),
    late: Mapping[str, float] = LATE,
    noise: float = 0.002,
    base: float = 0.9,
    goals: Sequence[Mapping[str, Any]] = (),
    **changes: Any,
) -> Report:
    """The report of such a study."""
    tree = list(pipelines or full())
    rows = [
        row
        for pipeline in tree
        for runtime in runtimes
        for seed in seeds
        for row in [_row(pipeline, runtime, seed, late, noise, base)]
    ]
    spec = {**measured()["spec"], "name": "study", "seeds": list(seeds), "goals": list(goals)}
    analysis = analyse(rows, spec)
    fields = {
        **measured(),
        "schema_version": 3,
        "title": "study",
        "rows": rows,
        "steps": list(_steps(tree, seeds)),
        "spec": spec,
        "analysis": analysis,
        "verdicts": make_verdicts(rows, analysis, REASONS),
    }
    return Report.model_validate({**fields, **changes})


def many_stages(number: int) -> Report:
    """A study of so many stages, each alone and after another one: the measured ones under other names."""
    pairs = [(f"s{i:02}-stage", STAGES[i % len(STAGES)]) for i in range(number)]
    names, kinds = [name for name, _ in pairs], dict(pairs)
    tree: list[Pipeline] = [DENSE, *((n,) for n in names), *pairwise(names)]
    found = study((0, 1), pipelines=[tuple(kinds[s] for s in p) for p in tree], runtimes=["onnxruntime"])
    rows = [
        row.model_copy(update={"pipeline": tree[i // 2], "step": key(tree[i // 2], row.seed)})
        for i, row in enumerate(found.rows)
    ]
    steps = [
        step.model_copy(
            update={
                "key": key(p, seed),
                "parent": key(p[:-1], seed) if p else None,
                "stage": p[-1] if p else "baseline",
            }
        )
        for step, (seed, p) in zip(found.steps, ((s, p) for s in (0, 1) for p in tree), strict=True)
    ]
    return found.model_copy(update={"rows": rows, "steps": steps, "analysis": analyse(rows, found.spec)})


def key(pipeline: Pipeline, seed: int) -> str:
    """A made-up content key."""
    return np.random.default_rng(_entropy(pipeline, seed)).bytes(32).hex()


def _entropy(pipeline: Pipeline, seed: int) -> list[int]:
    return [seed, *(ord(letter) for letter in "+".join(pipeline))]


def _row(pipeline: Pipeline, runtime: str, seed: int, late: Mapping[str, float], noise: float, base: float) -> Row:
    dense = next(row for row in measured()["rows"] if not row["pipeline"] and row["runtime"] == runtime)
    accuracy, latency, size = base, dense["metrics"]["latency_ms"]["value"], dense["metrics"]["size_bytes"]["value"]
    for i, stage in enumerate((None, *pipeline)):
        rng = np.random.default_rng(_entropy(pipeline[:i], seed))
        accuracy += rng.normal(0, noise)
        if stage:
            gains = GAINS[stage]
            accuracy += gains["accuracy"] + late.get(stage, 0.0) * (i - 1)
            latency, size = latency * gains["latency_ms"] * np.exp(rng.normal(0, noise)), size * gains["size_bytes"]
    values = {"accuracy": accuracy, "accuracy_validation": accuracy, "latency_ms": latency, "size_bytes": round(size)}
    metrics = {
        name: Metric(**{**metric, "value": values.get(name, metric["value"])})
        for name, metric in dense["metrics"].items()
    }
    metrics["sparsity"] = Metric(**_sparsity(dense["metrics"]["sparsity"], "magnitude" in pipeline))
    place = Path("deployed") / ("+".join(pipeline) or "baseline") / runtime / "model"
    return Row(
        pipeline=pipeline,
        seed=seed,
        runtime=runtime,
        file=place,
        step=key(pipeline, seed),
        parity=dense["parity"],
        metrics=metrics,
    )


def _sparsity(metric: Mapping[str, Any], pruned: bool) -> dict[str, Any]:
    layers = metric["provenance"]["layers"]
    shares = {layer: 0.4 + 0.4 * i / len(layers) if pruned else 0.0 for i, layer in enumerate(layers)}
    value = sum(shares.values()) / len(shares)
    return {**metric, "value": value, "provenance": {**metric["provenance"], "layers": shares}}


def _steps(tree: Sequence[Pipeline], seeds: Sequence[int]) -> Iterator[StepRecord]:
    by_stage = {step["stage"]: step for step in measured()["steps"]}
    for seed in seeds:
        for pipeline in tree:
            step = by_stage[pipeline[-1] if pipeline else "baseline"]
            parent = key(pipeline[:-1], seed) if pipeline else None
            yield StepRecord(**{**step, "key": key(pipeline, seed), "parent": parent})
