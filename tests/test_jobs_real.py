"""Real stages of a real network in several processes: the same bits as one after another, whatever is killed meanwhile.

`test_jobs.py` says the same of toys, which take no time; here quantizers, masks and teachers are trained.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from processes import Process
from test_bad_input import check_store, outcome, read
from test_jobs import children, gone

from pqd_core.artifact import Store, read_manifest
from pqd_core.host.environment import usable_cores

pytestmark = [
    pytest.mark.skipif(usable_cores() < 2, reason="jobs are made side by side where there are two cores"),
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="looks for child processes in /proc"),
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]
Start = Callable[..., Process]
KILLS = int(os.environ.get("PQD_TEST_KILLS", "10"))
SMALL = {
    "study": "full",
    "backbone.width": "0.25",
    "baseline.epochs": "1",
    "budget.epochs": "3",
    "measure": "[accuracy, size, sparsity]",
    "max_disagreement": "1.0",  # networks that are hardly trained are in doubt about everything
    "threads": "1",
}


def quickstart(pqd: Start, out: Path, jobs: int) -> Process:
    """The quickstart's full study, small: a baseline and fifteen stage runs of an epoch each, in two runtimes."""
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    env = {"PQD_PLUGINS": "", "PQD_STORE": str(out.with_suffix(".store"))}
    return pqd("run", "quickstart", *settings, "--jobs", str(jobs), "--out", out, env=env)


def bits(store: Path) -> dict[str, dict[str, str]]:
    """sha-256 of every file of every step and of every deployment, by key."""
    folders = [m.parent for shelf in ("steps", "deployed") for m in (store / shelf).rglob("manifest.json")]
    manifests = [read_manifest(folder, folder.name) for folder in folders]
    return {m.key: {name: file.sha256 for name, file in m.files.items()} for m in manifests}


def same(out: Path, alone: Path) -> None:
    """All artifacts of both runs are the same to the last bit, and so are their tables, without what the clock says."""
    assert bits(out.with_suffix(".store")) == bits(alone.with_suffix(".store"))
    assert outcome(out) == outcome(alone)
    for name in ("analysis", "verdicts", "notes"):
        assert read(out)[name] == read(alone)[name]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, _zygote: Any) -> Path:
    """The folder of a run that nobody disturbs, one step after another."""
    folder = tmp_path_factory.mktemp("alone")
    process = quickstart(lambda *argv, **more: _zygote.start(*argv, cwd=folder, **more), folder / "out", 1)
    assert process.wait() == 0, process.output
    assert len(read(folder / "out")["steps"]) == 16
    return folder / "out"


def test_two_jobs_train_deploy_and_report_what_one_does_to_the_last_bit(
    pqd: Start, alone: Path, tmp_path: Path
) -> None:
    several = quickstart(pqd, tmp_path / "out", 2)
    assert several.wait() == 0, several.output
    assert "2 at once: " in several.output
    assert len(bits(alone.with_suffix(".store"))) == 16 * 3
    same(tmp_path / "out", alone)


def test_a_study_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(
    pqd: Start, alone: Path, tmp_path: Path
) -> None:
    rng, out, kills, ended = random.Random(3), tmp_path / "out", 0, 0
    while kills < KILLS:
        process = quickstart(pqd, out, 2)
        _wait_for_lines(process, rng.randint(2, 14))
        time.sleep(rng.uniform(0.0, 2.0))
        everything = [process.pid, *children(process.pid)]
        if _kill_groups(everything):
            kills += 1
            assert process.wait() == -signal.SIGKILL
        else:  # it was at its end before: once more, from nothing
            ended += 1
            assert process.wait() == 0, process.output
            same(out, alone)
            shutil.rmtree(out)
            shutil.rmtree(out.with_suffix(".store"))
        assert gone(everything)
        if out.with_suffix(".store").is_dir():
            check_store(Store(out.with_suffix(".store")))
    last = quickstart(pqd, out, 2)
    assert last.wait() == 0, last.output
    same(out, alone)
    print(f"{kills} kills, {ended + 1} studies ended")  # noqa: T201


def _wait_for_lines(process: Process, lines: int) -> None:
    """Until it has told so much, whatever the machine's speed, or has ended."""
    while process.output.count("\n") < lines and _runs(process.pid):
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _kill_groups(pids: list[int]) -> bool:
    """SIGKILL for the run's group of processes, and for those of the processes that it had started; false if the run
    had ended."""
    if not _runs(pids[0]):
        return False
    os.killpg(pids[0], signal.SIGKILL)
    for pid in pids[1:]:
        with suppress(ProcessLookupError):  # it ended when it saw that the first one was gone
            os.killpg(pid, signal.SIGKILL)
    return True
