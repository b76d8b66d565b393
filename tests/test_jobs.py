"""Studies in several processes: the same results, no process left, and nothing lost when any of them is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import light_spec
from processes import Process
from test_bad_input import check_store, outcome, read, undisturbed, wait_for

from pqd_core.artifact import Store, read_manifest
from pqd_core.host.environment import usable_cores
from pqd_core.host.jobs import jobs_that_fit

pytestmark = [
    pytest.mark.skipif(usable_cores() < 2, reason="jobs are made side by side where there are two cores"),
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="looks for child processes in /proc"),
    pytest.mark.xdist_group("jobs"),
]
Start = Callable[..., Process]
PAUSE_S = 0.2
"""Seconds that a step sleeps, so that there is a moment to disturb it."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two stages in every order of every subset, for two seeds: ten steps."""
    stages = [{"use": "nudge", "by": by, "pause_s": PAUSE_S} for by in (0.1, 0.2)]
    spec = light_spec(stages=stages, study="full", budget={"epochs": 2}, seeds=[0, 1])
    (tmp_path / "study.json").write_text(json.dumps(spec))
    return tmp_path / "study.json"


@pytest.fixture
def quick(study: Path, tmp_path: Path) -> Path:
    """The same study without its pauses."""
    spec = json.loads(study.read_text())
    spec["stages"] = [{"use": "nudge", "by": by} for by in (0.1, 0.2)]
    (tmp_path / "quick.json").write_text(json.dumps(spec))
    return tmp_path / "quick.json"


def checksums(store: Path) -> dict[str, dict[str, str]]:
    """sha-256 of every file of every step, by key."""
    folders = [manifest.parent for manifest in (store / "steps").rglob("manifest.json")]
    manifests = [read_manifest(folder, folder.name) for folder in folders]
    return {m.key: {name: file.sha256 for name, file in m.files.items()} for m in manifests}


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that are still there."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:  # it ended meanwhile
            continue
        if int(lines["PPid"]) == pid and not lines["State"].startswith("Z"):
            found.append(int(status.parent.name))
    return found


def gone(pids: list[int], within_s: float = 20.0) -> bool:
    """Whether all of these processes have ended after that time."""
    for _ in range(int(within_s / 0.05)):
        if not any(_alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def killed_at_work(process: Process, when: str) -> list[int]:
    """Kill the process as soon as it says `when`; the processes that it had started."""
    wait_for(process, when)
    workers = children(process.pid)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return workers


def test_two_jobs_make_the_same_bits_as_one_and_the_same_report(pqd: Start, quick: Path, tmp_path: Path) -> None:
    undisturbed(pqd, quick, tmp_path)
    several = pqd("run", quick, "--out", "out", "--jobs", "2")
    assert several.wait() == 0, several.output
    assert "2 at once: " in several.output
    assert checksums(tmp_path / "store") == checksums(tmp_path / "alone" / "store")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "alone")
    assert not any(step["reused"] for step in read(tmp_path / "out")["steps"])


def test_no_process_outlives_a_run_that_is_killed_and_running_again_goes_on(
    pqd: Start, study: Path, tmp_path: Path
) -> None:
    undisturbed(pqd, study, tmp_path)
    workers = killed_at_work(pqd("run", study, "--out", "out", "--jobs", "2"), "  baseline")
    assert len(workers) == 2
    assert gone(workers)
    finished = check_store(Store(tmp_path / "store"))
    assert pqd("run", study, "--out", "out").wait() == 0
    assert outcome(tmp_path / "out") == outcome(tmp_path / "alone")
    assert {step["key"] for step in read(tmp_path / "out")["steps"] if step["reused"]} == finished
    assert checksums(tmp_path / "store") == checksums(tmp_path / "alone" / "store")


@pytest.mark.parametrize("end", ["of itself", "parent killed", "worker killed"])
def test_what_a_library_forks_in_a_process_of_a_run_does_not_outlive_it(pqd: Start, tmp_path: Path, end: str) -> None:
    left = tmp_path / "left"
    pause = 0.0 if end == "of itself" else 60.0
    spec = light_spec(stages=[{"use": "nudge", "pause_s": pause}])
    (tmp_path / "leaves.json").write_text(json.dumps(spec))
    process = pqd("run", "leaves.json", "--out", "out", "--jobs", "2", env={"LIGHT_LEAVES": str(left)})
    while not (left.is_file() and left.read_text()):
        time.sleep(0.05)
    pid = int(left.read_text())
    if end == "worker killed":
        assert all(map(_killed, children(process.pid)))
    elif end == "parent killed":
        process.send(signal.SIGKILL)
    process.wait()
    assert gone([pid])


def test_what_the_store_holds_is_found_without_another_process(pqd: Start, quick: Path, tmp_path: Path) -> None:
    assert pqd("run", quick, "--out", "out").wait() == 0
    again = pqd("run", quick, "--out", "out", "--jobs", "2")
    assert again.wait() == 0, again.output
    assert "deploying" not in again.output
    assert " at once: " not in again.output
    assert all(step["reused"] for step in read(tmp_path / "out")["steps"])


@pytest.mark.parametrize(
    ("jobs", "threads", "cores", "fit", "told"),
    [
        (2, 1, 2, 2, ""),
        (1, 4, 2, 1, ""),
        (2, 2, 2, 1, "2 jobs of 2 threads need 4 cores; on 2 cores, 1 job at a time; --set threads=1 lets 2"),
        (99, 1, 2, 2, "99 jobs of 1 thread need 99 cores; on 2 cores, 2 jobs at a time"),
        (4, 3, 8, 2, "4 jobs of 3 threads need 12 cores; on 8 cores, 2 jobs at a time; --set threads=2 lets 4"),
        (2, 1, 1, 1, "2 jobs of 1 thread need 2 cores; on 1 core, 1 job at a time"),
    ],
)
def test_no_more_jobs_are_started_than_have_cores_for_their_threads(
    jobs: int, threads: int, cores: int, fit: int, told: str
) -> None:
    found, said = jobs_that_fit(jobs, threads, cores)
    assert (found, said.removesuffix(" work at once")) == (fit, told)


def test_jobs_that_do_not_fit_are_told_and_the_run_goes_on_with_fewer(pqd: Start, quick: Path, tmp_path: Path) -> None:
    cores = usable_cores()
    process = pqd("run", quick, "--out", "out", "--jobs", "2", "--set", f"threads={cores}", "--set", "seeds=0")
    assert process.wait() == 0, process.output
    assert f"2 jobs of {cores} thread" in process.output
    assert "1 job at a time" in process.output
    assert " at once: " not in process.output


def test_a_process_that_dies_is_a_step_that_failed_and_the_other_branches_go_on(
    pqd: Start, study: Path, tmp_path: Path
) -> None:
    process = pqd("run", study, "--out", "out", "--jobs", "2", "--set", "seeds=0", "--set", "stages.0.pause_s=1.0")
    wait_for(process, "2 at once: nudge@1")
    os.kill(children(process.pid)[0], signal.SIGKILL)
    assert process.wait() == 1, process.output
    report = read(tmp_path / "out")
    assert [problem for problem in report["problems"] if "its process died (signal 9)" in problem]
    assert len(report["rows"]) >= 3, "the other branch"
    assert not children(process.pid)


def test_ctrl_c_ends_all_processes_with_one_sentence(pqd: Start, study: Path, tmp_path: Path) -> None:
    process = pqd("run", study, "--out", "out", "--jobs", "2")
    wait_for(process, "  baseline")
    workers = children(process.pid)
    for pid in (process.pid, *workers):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    assert process.wait() == 130, process.output
    assert gone(workers)
    assert process.output.count("pqd: interrupted; nothing that was finished is lost, run again to go on") == 1
    assert "Traceback" not in process.output
    assert not list((tmp_path / "store" / "aside").iterdir()), "what was half done is cleaned up"


def test_a_study_that_is_killed_at_any_change_of_the_disk_ends_as_if_it_had_not_been(
    pqd: Start, quick: Path, tmp_path: Path
) -> None:
    told = undisturbed(pqd, quick, tmp_path, die_at=0).output
    total = int(told.rpartition("changes: ")[2])
    rng = random.Random(0)
    for begin in range(1, total - total // 8, total // 8):
        moment = rng.randrange(begin, begin + total // 8)
        request = {"env": {"PQD_STORE": str(tmp_path / f"store-{moment}")}}
        killed = pqd("run", quick, "--out", f"out-{moment}", die_at=moment, **request)
        assert killed.wait() == -signal.SIGKILL
        finished = check_store(Store(tmp_path / f"store-{moment}"))
        again = pqd("run", quick, "--out", f"out-{moment}", **request)
        assert again.wait() == 0, (moment, again.output)
        assert outcome(tmp_path / f"out-{moment}") == outcome(tmp_path / "alone"), moment
        assert checksums(tmp_path / f"store-{moment}") == checksums(tmp_path / "alone" / "store"), moment
        assert {s["key"] for s in read(tmp_path / f"out-{moment}")["steps"] if s["reused"]} == finished


@pytest.mark.slow
def test_a_study_whose_processes_are_killed_again_and_again_gets_to_its_end(
    pqd: Start, study: Path, tmp_path: Path
) -> None:
    undisturbed(pqd, study, tmp_path)
    rng, kills = random.Random(2), dict[str, int](parent=0, worker=0)
    for _ in range(60):
        process = pqd("run", study, "--out", "out", "--jobs", "2")
        if _has_workers(process):
            time.sleep(rng.uniform(0.0, 3.0))
            whom = rng.choice(["parent", "worker"])
            workers = children(process.pid)
            kills[whom] += _killed(process.pid if whom == "parent" else rng.choice(workers or [process.pid]))
            process.wait()
            assert gone(workers)
            check_store(Store(tmp_path / "store"))
        else:
            assert process.wait() == 0, process.output
            _is_as_undisturbed(tmp_path)
            if min(kills.values()) > 3:
                return
            shutil.rmtree(tmp_path / "store")
            shutil.rmtree(tmp_path / "out")
    pytest.fail(f"60 runs with {kills} did not get to an end")


def _is_as_undisturbed(tmp_path: Path) -> None:
    assert outcome(tmp_path / "out") == outcome(tmp_path / "alone")
    assert checksums(tmp_path / "store") == checksums(tmp_path / "alone" / "store")


def _has_workers(process: Process) -> bool:
    """Waits until both workers are there; False if the run ends without, as nothing is left to be made."""
    status = Path(f"/proc/{process.pid}/status")
    while "\nState:\tZ" not in status.read_text():
        if len(children(process.pid)) == 2:
            return True
        time.sleep(0.05)
    return False


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
