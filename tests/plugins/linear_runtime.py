"""A runtime for tests: a linear classifier in a .npy file that takes as long, or fails in the way, it is told to."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pqd_core import Settings

CALLS_BEFORE_FAILING = 2


class LinearSettings(Settings):
    """How a session behaves."""

    sleep_ms: float = 0
    fails: Literal["never", "raises on opening", "raises", "crashes", "exits", "hangs"] = "never"
    takes: tuple[int | None, ...] | None = (None, 1, 4, 4)
    fills_mb: int = 0


class LinearSession:
    """`images @ weights`, after a nap."""

    def __init__(self, file: Path, settings: LinearSettings) -> None:
        self.weights, self.settings, self.calls = np.load(file), settings, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls += 1
        time.sleep(self.settings.sleep_ms / 1e3)
        if self.calls > CALLS_BEFORE_FAILING:
            fail(self.settings.fails)
        logits: np.ndarray = images.reshape(len(images), -1) @ self.weights
        return logits

    def close(self) -> None:
        self.closed = True


def fail(how: str) -> None:
    if how == "raises":
        raise RuntimeError("the runtime gave up")
    if how == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exits":
        print("assertion failed in kernel 7", file=sys.stderr)  # noqa: T201
        os._exit(3)
    if how == "hangs":
        time.sleep(3600)


def input_shape(file: Path, settings: LinearSettings) -> tuple[int | None, ...] | None:
    """What the settings say, after the file was looked at."""
    np.load(file)
    np.ones(settings.fills_mb * 2**17)  # 8 bytes each
    return settings.takes


def open_session(file: Path, threads: int, settings: Any, batch: int | None = None) -> LinearSession:
    """Leaves beside the file what it saw when it was opened."""
    if settings.fails == "raises on opening":
        raise ValueError("this file is of another version")
    seen = {
        "pid": os.getpid(),
        "torch": "torch" in sys.modules,
        "openmp": os.environ.get("OMP_NUM_THREADS"),
        "openblas": os.environ.get("OPENBLAS_NUM_THREADS"),
        "cpus": sorted(os.sched_getaffinity(0)),
        "threads": threads,
        "batch": batch,
        "settings": type(settings).__name__,
    }
    file.with_suffix(".seen.json").write_text(json.dumps(seen))
    return LinearSession(file, settings)
