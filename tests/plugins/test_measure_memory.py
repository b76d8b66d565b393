"""What a file adds to its process is seen, in the heap, mapped and at its peak; and there is an end to it."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from pqd_measure import memory
from pqd_measure.waiting import waited_ns, waited_share

MIB = 2**20
TOLERANCE = 6 * MIB


def grown(name: str, watch: memory.Watch) -> int:
    found = watch.told()
    assert "missing" not in found
    return int(found[name])


def held_and_given_back(tmp_path: Path) -> None:
    watch = memory.Watch()
    kept, gone = np.ones(20 * MIB, np.uint8), np.ones(60 * MIB, np.uint8)
    del gone
    watch.loaded(tmp_path / "none")
    assert abs(grown("loaded_bytes", watch) - 20 * MIB) < TOLERANCE
    assert abs(grown("loading_peak_bytes", watch) - 80 * MIB) < TOLERANCE
    assert abs(grown("memory_bytes", watch) - 20 * MIB) < TOLERANCE
    assert kept.all()


def peak_of_inferences(tmp_path: Path) -> None:
    watch = memory.Watch()
    watch.loaded(tmp_path / "none")
    passing = np.ones(40 * MIB, np.uint8)
    del passing
    assert abs(grown("inference_bytes", watch) - 40 * MIB) < TOLERANCE
    assert abs(grown("memory_bytes", watch) - 40 * MIB) < TOLERANCE


def mapped_pages(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"1" * 8 * MIB)
    (tmp_path / "other.bin").write_bytes(b"1" * 8 * MIB)
    watch = memory.Watch()
    with (tmp_path / "model.bin").open("rb") as mine, (tmp_path / "other.bin").open("rb") as foreign:
        maps = [mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) for stream in (mine, foreign)]
        assert all(sum(part[:: mmap.PAGESIZE]) for part in maps)
        watch.loaded(tmp_path / "model.xml")
    assert grown("mapped_file_bytes", watch) == 8 * MIB
    assert abs(grown("memory_bytes", watch) - 8 * MIB) < TOLERANCE
    for part in maps:
        part.close()


def in_a_fresh_process(check: Callable[[Path], None], folder: Path) -> None:
    """As a worker is one: in a process that runs tests, other threads come by memory and let go of it meanwhile."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(check, folder).result()


def test_what_is_held_is_counted_and_what_was_given_back_is_not(tmp_path: Path) -> None:
    in_a_fresh_process(held_and_given_back, tmp_path)


def test_the_peak_of_inferences_is_added(tmp_path: Path) -> None:
    in_a_fresh_process(peak_of_inferences, tmp_path)


def test_pages_of_the_file_and_of_those_beside_it_that_stay_mapped_are_counted(tmp_path: Path) -> None:
    in_a_fresh_process(mapped_pages, tmp_path)


def test_a_system_that_does_not_tell_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    watch = memory.Watch()
    watch.loaded(tmp_path)
    assert watch.told()["missing"].startswith("this system does not tell a process's memory")


def test_no_more_than_the_limit_can_be_allocated() -> None:
    code = (
        "from pqd_measure.memory import limit_memory; limit_memory(256); a = bytearray(100 * 2**20)\n"
        "try:\n    b = bytearray(400 * 2**20)\nexcept MemoryError:\n    print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def test_waiting_for_a_core_is_summed_over_threads_old_and_new(tmp_path: Path) -> None:
    def write(**waits: int) -> dict[str, int]:
        for task, wait in waits.items():
            (tmp_path / task).mkdir(exist_ok=True)
            (tmp_path / task / "schedstat").write_text(f"123456 {wait} 7\n")
        return waited_ns(tmp_path)

    (tmp_path / "ended").mkdir()
    before, after = write(t1=100), write(t1=150, t2=30)
    assert (before, after) == ({"t1": 100}, {"t1": 150, "t2": 30})
    assert waited_share(before, after, span_ns=1000) == 0.08
    assert waited_ns(tmp_path / "nothing") == {}
