"""Several pieces of a run at once, each in a process of its own; see worker.py for the other side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

from attrs import define

from pqd_core.context import RunContext
from pqd_core.host.errors import Problem, SpecError
from pqd_core.host.words import counted

BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); from pqd_core.host.worker import main; main()"
)
GRACE_S = 5.0
"""Time that a process gets to clean up when it is told to stop."""
TAIL_BYTES = 20_000


class Piece(NamedTuple):
    """What a process can be asked for: to make a `step`, or to `deploy` one."""

    what: str
    key: str


Message = Mapping[str, Any]


@define(eq=False)
class Worker:
    """A process that does one piece at a time; one that died is replaced when there is more to do."""

    told: Mapping[str, Any]
    inbox: SimpleQueue[tuple[Worker, Message]]
    piece: Piece | None = None
    process: subprocess.Popen[str] | None = None
    output: IO[bytes] | None = None

    def begin(self, piece: Piece) -> None:
        """Ask for `piece`; what comes of it is put into the inbox."""
        self.piece = piece
        if self.process is None:
            self._start()
        self._say({"do": piece.what, "key": piece.key})

    def _start(self) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", BEGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.output,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # so that what libraries start in it can be ended with it
        )
        self._say(sys.path)
        self._say(self.told)
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()

    def _say(self, line: object) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died; its end is in the inbox, or will be
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.inbox.put((self, json.loads(line)))
        self.inbox.put((self, {"kind": "died", "code": process.wait()}))

    def last_words(self) -> str:
        """The end of what the process wrote to its standard output and error."""
        assert self.output is not None
        size = self.output.seek(0, 2)
        self.output.seek(max(0, size - TAIL_BYTES))
        return self.output.read().decode(errors="replace").strip()

    def stop(self) -> None:
        """The process is told to end: at once if it is idle, after it has cleaned up if it is busy."""
        if self.process and self.piece:
            self.process.terminate()
        elif self.process and self.process.stdin:
            self.process.stdin.close()

    def end(self) -> None:
        """The process is gone, and whatever it had started."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


class Crew:
    """`jobs` processes at most, which share the pieces of one run."""

    def __init__(self, context: RunContext, log: Path, jobs: int) -> None:
        spec, store = context.spec.model_dump(mode="json"), context.store.root.resolve()
        told = {"spec": spec, "store": str(store), "log": str(log.resolve())}
        self.inbox: SimpleQueue[tuple[Worker, Message]] = SimpleQueue()
        self.idle = [Worker(told, self.inbox) for _ in range(jobs)]
        self.busy: list[Worker] = []

    def carry_out(self, pieces: Mapping[Piece, Sequence[Piece]]) -> Generator[tuple[Piece, Message], None, None]:
        """Every message about each piece; one begins when those that it waits for are done, earlier ones first.

        A piece that `failed` or `died` holds up those that wait for it, and no others. No process is left at the end.
        """
        order, rank = TopologicalSorter(pieces), {piece: place for place, piece in enumerate(pieces)}
        order.prepare()
        waiting: list[tuple[int, Piece]] = []
        try:
            while True:
                for piece in order.get_ready():
                    heappush(waiting, (rank[piece], piece))
                while waiting and self.idle:
                    yield self._begin(heappop(waiting)[1]), {"kind": "begun"}
                if not self.busy:
                    return
                for piece, message in self._news():
                    if message["kind"] == "done":
                        order.done(piece)
                    yield piece, message
        finally:
            for worker in (*self.busy, *self.idle):
                worker.stop()
            for worker in (*self.busy, *self.idle):
                worker.end()

    def _begin(self, piece: Piece) -> Piece:
        self.busy.append(worker := self.idle.pop())
        worker.begin(piece)
        return piece

    def _news(self) -> Iterator[tuple[Piece, Message]]:
        """The next message, if it is about a piece."""
        worker, message = self.inbox.get()
        if message["kind"] == "died":
            message = {**message, "output": worker.last_words()}
            worker.end()
        if (piece := worker.piece) and message["kind"] in ("done", "failed", "died"):
            worker.piece = None
            self.busy.remove(worker)
            self.idle.append(worker)
        if piece:
            yield piece, message


def jobs_that_fit(jobs: int, threads: int, cores: int) -> tuple[int, str]:
    """As many of the jobs as have cores for their threads, at least one; and what to tell a person who asked for more.

    More of them would be slower than fewer, and results do not depend on how many there are.
    """
    fit = max(1, min(jobs, cores // threads))
    if fit == jobs:
        return jobs, ""
    more = ""
    if threads > 1 < cores:
        more = f"; --set threads={max(1, cores // jobs)} lets {min(jobs, cores)} work at once"
    asked = f"{counted(jobs, 'job')} of {counted(threads, 'thread')} need {jobs * threads} cores"
    return fit, f"{asked}; on {counted(cores, 'core')}, {counted(fit, 'job')} at a time{more}"


def check_plugins(context: RunContext) -> None:
    """Everything that the run asks for can be found by another process, too.

    Raises:
        SpecError: a part is known to this process alone.
    """
    spec = context.spec
    installed = {plugin.name for plugin in context.host.plugins if plugin.distribution}
    parts = [spec.backbone, spec.dataset, *spec.stages, *(spec.runtimes or ()), *([spec.task] if spec.task else ())]
    if alone := dict.fromkeys(part.name for part in parts if part.plugin not in installed):
        what = f"{', '.join(alone)}: known to this process alone, so that no other can run it"
        raise SpecError(Problem("jobs", what, "run with one job, or make it a plugin of an installed package"))
