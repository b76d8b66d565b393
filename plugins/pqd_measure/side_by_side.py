"""Files timed side by side: fresh processes for all of them, warmed up until steady, in turns; and that several times.

Needs no spec and no run: files, the runtimes that open them, images, and settings.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from attrs import define, evolve, field, frozen
from pydantic import BaseModel

from pqd_measure import LatencySettings
from pqd_measure.cores import pick_cpus, usable_cpus
from pqd_measure.energy import POWERCAP
from pqd_measure.estimates import Floats
from pqd_measure.process import Worker, WorkerFailed
from pqd_measure.rounds import shuffled_rounds
from pqd_measure.waiting import DISTURBED

K = TypeVar("K", bound=Hashable)
LEAST_PER_TURN, MOST_PER_TURN = 2, 200
UNTIMED = 0.25
"""Share of a turn that passes before inferences are timed: another process has run, so caches are cold and its
threads may still spin (those of ONNX Runtime do for about 20 ms)."""


@frozen(eq=False)
class Subject:
    """A file to be timed and the runtime that opens it, in a form that another process can be told."""

    file: Path
    load: str | object
    """`module` or `module:attribute` of the runtime's implementation."""
    settings: Any
    """The runtime's settings: a pydantic model, or what goes through JSON."""
    images: Path
    """A .npy of normalized float32 images (a multiple of the batch, C, H, W)."""


def what_to_open(file: Path, load: str | object, settings: Any) -> dict[str, Any]:
    """A file, its runtime and its settings in a form that goes through a pipe.

    Raises:
        WorkerFailed: the runtime has no import path.
    """
    if not isinstance(load, str):
        raise WorkerFailed("its runtime has no import path, so no other process can load it")
    model = type(settings) if isinstance(settings, BaseModel) else None
    return {
        "load": load,
        "file": str(file),
        "settings": settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings,
        "settings_type": f"{model.__module__}:{model.__qualname__}" if model else None,
    }


@define(eq=False)
class Visit:
    """What one process of a file found."""

    opened: dict[str, Any]
    warm: dict[str, Any] = field(factory=dict)
    turns: list[dict[str, Any]] = field(factory=list)
    memory: dict[str, Any] = field(factory=dict)


@define(eq=False)
class Timed:
    """What was found about one file; `failure` says why there is nothing more of it."""

    visits: list[Visit] = field(factory=list)
    failure: str | None = None
    scale: float = 1.0
    """What the times were multiplied by."""
    scale_reach: float = 0.0
    """How far that factor may be off, as the logarithm of a ratio."""

    def scaled(self, factor: float, reach: float) -> Timed:
        """The same with all times multiplied by `factor`, which may be off by `reach`."""
        visits = [
            evolve(v, turns=[turn | {"times_ms": _times(turn) * factor} for turn in v.turns]) for v in self.visits
        ]
        return evolve(self, visits=visits, scale=factor, scale_reach=reach)

    @property
    def times_ms(self) -> Floats:
        """All times, (processes, rounds, inferences)."""
        return np.array([[_times(turn) for turn in visit.turns] for visit in self.visits])

    @property
    def disturbed(self) -> int:
        """Turns that count although other programs took the cores meanwhile, for want of calmer ones."""
        return sum(turn["waited"] > DISTURBED for visit in self.visits for turn in visit.turns)

    @property
    def energy_mj(self) -> Floats:
        """Millijoules of one inference, (processes, rounds); NaN where they were not counted."""
        spent = np.array([[turn["energy_uj"] for turn in visit.turns] for visit in self.visits], np.float64)
        each: Floats = spent / 1e3 / self.times_ms.shape[2]
        return each

    def each(self, key: str) -> Floats:
        """A number that each process told when it had opened the file, (processes,)."""
        return np.array([visit.opened[key] for visit in self.visits], float)


def _times(turn: Mapping[str, Any]) -> Floats:
    """A turn's times, (inferences,), in milliseconds."""
    return np.asarray(turn["times_ms"], np.float64)


@define(eq=False)
class _Candidate:
    """A file while one of its processes runs."""

    subject: Subject
    worker: Worker
    timed: Timed

    @property
    def visit(self) -> Visit:
        return self.timed.visits[-1]


def time_side_by_side(
    subjects: Mapping[K, Subject],
    settings: LatencySettings,
    threads: int,
    scratch: Path,
    *,
    powercap: Path = POWERCAP,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[K, Timed]:
    """Every file timed in the same rounds, `settings.processes` times anew, or with its failure; all processes ended.

    `settings.threads` and `settings.at_once` are the caller's business; `scratch` is a folder for logs.
    """
    timed = {name: Timed() for name in subjects}
    for number in range(settings.processes):
        progress(f"processes {number + 1} of {settings.processes}")
        standing = {name: subject for name, subject in subjects.items() if timed[name].failure is None}
        with ExitStack() as stack:
            candidates = [
                _Candidate(subject, stack.enter_context(Worker(scratch / f"worker-{index}.log", threads)), timed[name])
                for index, (name, subject) in enumerate(standing.items())
            ]
            _visit(candidates, settings, threads, powercap, settings.seed + number)
    return timed


def _visit(
    candidates: list[_Candidate], settings: LatencySettings, threads: int, powercap: Path, order_seed: int
) -> None:
    """One process of each file, from its start to its last turn."""
    cpus = pick_cpus(threads, usable_cpus())
    _each(candidates, lambda one: _open(one, settings, threads, cpus, powercap))
    _each(candidates, lambda one: _warm_up(one, settings))
    for order in shuffled_rounds(candidates, settings.rounds_each, order_seed):
        _each(order, lambda one: _take_turn(one, settings))
    _each(candidates, lambda one: _weigh(one, settings))


def _each(candidates: Iterable[_Candidate], act: Callable[[_Candidate], None]) -> None:
    """`act` done to each candidate that still stands, one after the other; one that fails fails alone."""
    for candidate in candidates:
        if candidate.timed.failure is None:
            try:
                act(candidate)
            except WorkerFailed as failure:
                candidate.timed.failure = str(failure)
                candidate.worker.end()


def _open(one: _Candidate, settings: LatencySettings, threads: int, cpus: list[int], powercap: Path) -> None:
    subject = one.subject
    answer = one.worker.ask(
        "open",
        settings.limit_s,
        images=str(subject.images),
        batch=settings.batch,
        threads=threads,
        cpus=cpus,
        limit_mb=settings.memory_limit_mb,
        powercap=str(powercap),
        **what_to_open(subject.file, subject.load, subject.settings),
    )
    one.timed.visits.append(Visit(answer))


def _warm_up(one: _Candidate, settings: LatencySettings) -> None:
    patience_s = settings.limit_s + settings.warmup_s
    one.visit.warm = one.worker.ask("warm", patience_s, limit_s=settings.warmup_s, tolerance=settings.warmup_tolerance)


def _take_turn(one: _Candidate, settings: LatencySettings) -> None:
    turn_s = settings.seconds / (settings.processes * settings.rounds_each)
    # the first process decides, so that all turns of a file weigh alike
    wanted = round((1 - UNTIMED) * turn_s * 1e3 / one.timed.visits[0].warm["median_ms"])
    count = min(max(wanted, LEAST_PER_TURN), MOST_PER_TURN)
    takes = _takes(one, settings, {"untimed_s": UNTIMED * turn_s, "count": count})
    best = min(takes, key=lambda turn: turn["waited"])
    one.visit.turns.append(best | {"takes": len(takes)})


def _takes(one: _Candidate, settings: LatencySettings, turn: dict[str, Any]) -> list[dict[str, Any]]:
    """A turn, again and again while others take the cores away meanwhile, `settings.retakes` times at most.

    Which of them counts is decided by how long threads waited, never by the times themselves.
    """
    takes = [one.worker.ask("turn", settings.limit_s, **turn)]
    while takes[-1]["waited"] > DISTURBED and len(takes) <= settings.retakes:
        takes.append(one.worker.ask("turn", settings.limit_s, **turn))
    return takes


def _weigh(one: _Candidate, settings: LatencySettings) -> None:
    one.visit.memory = one.worker.ask("memory", settings.limit_s)
