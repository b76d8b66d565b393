"""The parent's end of a worker: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Self

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
OTHER_POOLS = (
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
PLACEMENTS = ("OMP_PROC_BIND", "OMP_PLACES", "OMP_DYNAMIC", "OMP_THREAD_LIMIT", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""What a person has set for other programs, and what would move or take away threads."""
DURING = {
    "look": "opening the file",
    "work": "a look at what it runs",
    "open": "opening the file",
    "warm": "warm-up",
    "turn": "a timed turn",
    "memory": "reading its memory",
}
GRACE_S = 5.0
"""How long a process whose pipe is closed may take to leave its exit status."""


class WorkerFailed(Exception):
    """A worker raised, died or gave no answer in time; the text becomes the reason of a missing number."""


class Worker:
    """A process of its own for one deployed file; on leaving the `with` block it has ended.

    It is a fresh interpreter rather than a fork or a `multiprocessing` child: it inherits no thread pool, and
    never runs the parent's script a second time.
    """

    def __init__(self, log: Path, threads: int) -> None:
        self.log = log
        self._pipe, theirs = Pipe()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                # -P: nothing in the current folder may shadow a library
                [sys.executable, "-P", "-m", "pqd_measure.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(os.environ, threads),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its workers
            )
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    def ask(self, task: str, patience_s: float, **arguments: Any) -> dict[str, Any]:
        """The worker's answer to `task`.

        Raises:
            WorkerFailed: it raised, has died, or did not answer within `patience_s` and was ended.
        """
        try:
            self._pipe.send_bytes(json.dumps([task, arguments]).encode())
            if not self._pipe.poll(patience_s):
                self.end()
                raise WorkerFailed(f"gave no answer within {patience_s:g} s of {DURING[task]}; its process was ended")
            answer: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise WorkerFailed(self._how_it_died(task)) from None
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def end(self) -> None:
        """The process, and whatever it started, is gone; nothing if it has ended already."""
        self._pipe.close()
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _how_it_died(self, task: str) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        status = self._process.returncode
        self.end()
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        return ": ".join([f"its process {_ending(status)} during {DURING[task]}", *last])


def _ending(status: int | None) -> str:
    """What an exit status, or its absence, says."""
    if status is None:
        return "closed the connection"
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + (", out of memory perhaps," if name == "SIGKILL" else "")


def environment(parent: Mapping[str, str], threads: int) -> dict[str, str]:
    """The parent's environment and import path, OpenMP at `threads` and placed by nobody else, other pools at one."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    pools = dict.fromkeys(POOLS, str(threads)) | dict.fromkeys(OTHER_POOLS, "1")
    kept = {name: value for name, value in parent.items() if name not in PLACEMENTS}
    return {**kept, **pools, "PYTHONPATH": path}
