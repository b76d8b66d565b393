"""Candidates timed side by side: opened, warmed up until steady, then in turns until all rounds are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field, frozen
from pydantic import BaseModel

from pqd_core import Deployed, MeasureContext
from pqd_measure import LatencySettings
from pqd_measure.process import Worker, WorkerFailed
from pqd_measure.rounds import Floats, shuffled_rounds

LEAST_PER_TURN, MOST_PER_TURN = 2, 200
UNTIMED = 0.25
"""Share of a turn that passes before inferences are timed: another process has run, so caches are cold and its
threads may still spin (those of ONNX Runtime do for about 20 ms)."""


@frozen(eq=False)
class Bench:
    """What all candidates have in common."""

    settings: LatencySettings
    context: MeasureContext
    images: Path
    """A .npy of normalized float32 images, a multiple of `settings.batch`."""
    threads: int
    cpus: list[int]


@define(eq=False)
class Candidate:
    """A deployed file while it is timed; `failure` says why it no longer is."""

    deployed: Deployed
    worker: Worker
    pinned: list[int] | None = None
    warm: dict[str, Any] = field(factory=dict)
    turns: list[dict[str, Any]] = field(factory=list)
    failure: str | None = None

    @property
    def times_ms(self) -> Floats:
        """All times, (rounds, inferences)."""
        return np.array([turn["times_ms"] for turn in self.turns])

    @property
    def preempted(self) -> int:
        """How often the system took a core away from the timed inferences."""
        return sum(turn["preempted"] for turn in self.turns)


def time_together(group: Mapping[int, Deployed], bench: Bench) -> dict[int, Candidate]:
    """Every file of the group timed in the same rounds, or with its failure; all processes have ended."""
    settings, scratch = bench.settings, bench.context.scratch
    with ExitStack() as stack:
        timed: dict[int, Candidate] = {}
        for index, deployed in group.items():
            worker = stack.enter_context(Worker(scratch / f"worker-{index}.log", bench.threads))
            timed[index] = Candidate(deployed, worker)
        _each(timed.values(), lambda one: _open(one, bench))
        _each(timed.values(), lambda one: _warm_up(one, settings))
        for order in shuffled_rounds(list(timed.values()), settings.rounds, settings.seed):
            _each(order, lambda one: _take_turn(one, settings))
    return timed


def _each(candidates: Iterable[Candidate], act: Callable[[Candidate], None]) -> None:
    """`act` done to each candidate that still stands, one after the other; one that fails fails alone."""
    for candidate in candidates:
        if candidate.failure is None:
            try:
                act(candidate)
            except WorkerFailed as failure:
                candidate.failure = str(failure)
                candidate.worker.end()


def _open(candidate: Candidate, bench: Bench) -> None:
    answer = candidate.worker.ask(
        "open",
        bench.settings.limit_s,
        **_what_to_open(candidate.deployed, bench.context),
        images=str(bench.images),
        batch=bench.settings.batch,
        threads=bench.threads,
        cpus=bench.cpus,
    )
    candidate.pinned = answer["pinned"]


def _what_to_open(deployed: Deployed, context: MeasureContext) -> dict[str, Any]:
    """The runtime, the file and its settings in a form that goes through a pipe."""
    try:
        load, file, settings = context.worker(deployed)
    except Exception as error:
        raise WorkerFailed(f"cannot be opened in a process of its own: {error}") from error
    if not isinstance(load, str):
        raise WorkerFailed(f"runtime {deployed.runtime} has no import path, so no other process can load it")
    model = type(settings) if isinstance(settings, BaseModel) else None
    return {
        "load": load,
        "file": str(file),
        "settings": settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings,
        "settings_type": f"{model.__module__}:{model.__qualname__}" if model else None,
    }


def _warm_up(candidate: Candidate, settings: LatencySettings) -> None:
    candidate.warm = candidate.worker.ask(
        "warm", settings.limit_s + settings.warmup_s, limit_s=settings.warmup_s, tolerance=settings.warmup_tolerance
    )


def _take_turn(candidate: Candidate, settings: LatencySettings) -> None:
    turn_s = settings.seconds / settings.rounds
    wanted = round((1 - UNTIMED) * turn_s * 1e3 / candidate.warm["median_ms"])
    count = min(max(wanted, LEAST_PER_TURN), MOST_PER_TURN)
    answer = candidate.worker.ask("turn", settings.limit_s, untimed_s=UNTIMED * turn_s, count=count)
    candidate.turns.append(answer)
