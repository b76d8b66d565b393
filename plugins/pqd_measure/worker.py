"""A process that holds one deployed file open and times it; started as `python -m pqd_measure.worker FD`.

It imports the runtime's implementation and what that imports, no more, and pins itself to its CPUs before
doing so, because runtimes size their thread pools when they are loaded.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import asdict

from pqd_measure import energy, memory
from pqd_measure.waiting import waited_ns, waited_share

if TYPE_CHECKING:
    from pqd_core import Session

BLOCK_S = 0.05
BLOCK_LEAST = 3
"""A warm-up block lasts this long and holds at least so many inferences."""
STEADY_BLOCKS = 3
MOST_SAID = 500
OUT_OF_MEMORY = re.compile("bad_alloc|bad allocation|alloc.*fail|fail.*alloc|out of memory", re.IGNORECASE)


class Bench:
    """One deployed file on the bench; the methods without underscore are what the other end may ask for."""

    _seen: tuple[Any, Path, Any]
    _session: Session
    _images: Iterator[np.ndarray]
    _counters: list[energy.Counter]
    _memory: memory.Watch

    def look(self, limit_mb: int, **what: Any) -> dict[str, Any]:
        """The images that the file takes, null where any size will do or nobody knows."""
        memory.limit_memory(limit_mb)
        self._seen = runtime, file, settings = _runtime(**what)
        shape = runtime.input_shape(file, settings) if hasattr(runtime, "input_shape") else None
        return {"input_shape": None if shape is None else list(shape)}

    def work(self, shape: list[int] | None) -> dict[str, Any]:
        """What is run of the file that was looked at; for images of `shape` where it leaves that open."""
        from pqd_measure.work import work_by  # what only looks at a file is no burden on what times it

        return asdict(work_by(*self._seen, shape))

    def open(
        self, images: str, batch: int, threads: int, cpus: list[int], limit_mb: int, powercap: str, **what: Any
    ) -> dict[str, Any]:
        """The file is loaded and has run once; says how long that took and which CPUs the process is pinned to."""
        pinned = pin(cpus)
        memory.limit_memory(limit_mb)
        began = time.perf_counter()
        runtime, file, settings = _runtime(**what)
        import_ms = (time.perf_counter() - began) * 1e3
        self._images = itertools.cycle(_batches(Path(images), batch))
        self._counters, no_energy = _counters(Path(powercap))
        self._memory = memory.Watch()
        began = time.perf_counter()
        self._session = runtime.open_session(file, threads, settings, batch=batch)
        load_ms = (time.perf_counter() - began) * 1e3
        [first_ms] = self._times_ms(1)
        self._memory.loaded(file)
        return {
            "pinned": pinned,
            "import_ms": import_ms,
            "load_ms": load_ms,
            "first_ms": first_ms,
            "no_energy": no_energy,
        }

    def warm(self, limit_s: float, tolerance: float) -> dict[str, Any]:
        """The file has run until its times were steady, or for `limit_s`; says which, and the last median."""
        began, medians, inferences = time.perf_counter(), list[float](), 0
        while not (steady := is_steady(medians, tolerance)) and time.perf_counter() - began < limit_s:
            block = self._block_ms()
            medians.append(statistics.median(block))
            inferences += len(block)
        return {
            "steady": steady,
            "inferences": inferences,
            "seconds": time.perf_counter() - began,
            "median_ms": medians[-1],
        }

    def turn(self, untimed_s: float, count: int) -> dict[str, Any]:
        """`count` inferences, timed, after `untimed_s` of others; the energy, and how far others took the cores."""
        began = time.perf_counter()
        while time.perf_counter() - began < untimed_s:
            self._times_ms(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        waited, energy_before, began_ns = waited_ns(), energy.read_uj(self._counters), time.perf_counter_ns()
        times_ms = self._times_ms(count)
        span_ns, energy_after = time.perf_counter_ns() - began_ns, energy.read_uj(self._counters)
        return {
            "times_ms": times_ms,
            "waited": waited_share(waited, waited_ns(), span_ns),
            "preempted": resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before,
            "energy_uj": energy.spent_uj(self._counters, energy_before, energy_after),
        }

    def memory(self) -> dict[str, Any]:
        """What the file adds to this process, at its peak."""
        return self._memory.told()

    def _block_ms(self) -> list[float]:
        times_ms = self._times_ms(BLOCK_LEAST)
        while sum(times_ms) < BLOCK_S * 1e3:
            times_ms += self._times_ms(1)
        return times_ms

    def _times_ms(self, count: int) -> list[float]:
        session, times_ms = self._session, []
        for images in itertools.islice(self._images, count):
            began = time.perf_counter_ns()
            session(images)
            times_ms.append((time.perf_counter_ns() - began) / 1e6)
        return times_ms


def _runtime(load: str, file: str, settings: Any, settings_type: str | None) -> tuple[Any, Path, Any]:
    """The runtime, which is imported now, the file, and the settings as what they were."""
    runtime = resolve_name(load)
    if settings_type is not None:
        settings = resolve_name(settings_type).model_validate(settings)
    return runtime, Path(file), settings


def _batches(images: Path, batch: int) -> list[np.ndarray]:
    stored = np.load(images)
    return [np.ascontiguousarray(part) for part in stored.reshape(-1, batch, *stored.shape[1:])]


def _counters(root: Path) -> tuple[list[energy.Counter], str | None]:
    """The energy counters, or none and the reason."""
    try:
        return energy.find_counters(root), None
    except energy.NoCounters as reason:
        return [], str(reason)


def is_steady(medians: list[float], tolerance: float) -> bool:
    """The last blocks differ by a share of at most `tolerance`."""
    last = medians[-STEADY_BLOCKS:]
    return len(last) == STEADY_BLOCKS and max(last) - min(last) <= tolerance * min(last)


def pin(cpus: list[int]) -> list[int] | None:
    """The CPUs that this process is bound to from here on; None where the system does not allow it."""
    try:
        os.sched_setaffinity(0, cpus)
    except (AttributeError, OSError):
        return None
    return cpus


def serve(pipe: Connection) -> None:
    """Answer each request `[task, arguments]` with a JSON object until the other end is closed."""
    bench = Bench()
    gc.disable()
    with suppress(EOFError):
        while True:
            task, arguments = json.loads(pipe.recv_bytes())
            gc.collect()
            pipe.send_bytes(json.dumps(_answer(bench, task, arguments)).encode())


def _answer(bench: Bench, task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = getattr(bench, task)(**arguments)
    except Exception as error:
        return {"error": _reason(error)}
    return answer


def _reason(error: Exception) -> str:
    from pqd_core import PqdError
    from pqd_measure.work import printable

    said = str(error) if isinstance(error, PqdError) else f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(said):
        allowed, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return f"it takes more memory than the {allowed // 2**20} MB that its process may have"
    return printable(" ".join(said.split()))[:MOST_SAID]


if __name__ == "__main__":
    with closing(Connection(int(sys.argv[1]))) as _pipe:
        serve(_pipe)
