"""What `pqd doctor` is told about measuring here: how far identical work spreads, the clock, energy counters."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import frozen

from pqd_core import Finding
from pqd_measure.cores import TOPOLOGY, usable_cpus
from pqd_measure.energy import POWERCAP, NoCounters, find_counters, read_uj, spent_uj

STAT = Path("/proc/stat")
REPEATS, BLOCK = 400, bytes(2**20)
"""The same bytes are hashed again and again: no library threads, no memory to speak of, a millisecond or so each."""
SPREAD_LIMIT, STOLEN_LIMIT, BUSY_LIMIT = 0.05, 0.01, 0.1
ADVICE = "see docs/latency.md, A quieter machine; give more processes and rounds meanwhile"


@frozen
class Ticks:
    """Time of all CPUs since the start, in clock ticks."""

    busy: int
    stolen: int
    total: int

    @classmethod
    def now(cls, stat: Path = STAT) -> Ticks | None:
        """As Linux counts it (proc_stat(5)); None where it does not."""
        if not stat.is_file():
            return None
        counts = [int(count) for count in stat.read_text().splitlines()[0].split()[1:9]]
        idle, iowait, stolen = counts[3], counts[4], counts[7]
        return cls(sum(counts) - idle - iowait - stolen, stolen, sum(counts))


def noise() -> Iterator[Finding]:
    """Identical work, timed again and again, beside what else the machine is doing meanwhile."""
    before, own, times_ms = Ticks.now(), time.process_time(), hash_times_ms()
    own = time.process_time() - own
    middle, upper = np.median(times_ms), np.percentile(times_ms, 95)
    beyond = float(upper / middle - 1)
    quiet = beyond <= SPREAD_LIMIT
    yield Finding(
        f"identical work of {middle:.2f} ms: 95 of 100 times at most {1 + beyond:.2f} times the median, "
        f"the longest {times_ms.max() / middle:.1f} times",
        ok=quiet,
        advice="" if quiet else ADVICE,
    )
    after = Ticks.now()
    if before is not None and after is not None:
        yield from _others(before, after, own)


def hash_times_ms(repeats: int = REPEATS) -> np.ndarray:
    """Times of the same work, after some that are not counted."""
    times = []
    for _ in range(repeats + repeats // 10):
        began = time.perf_counter()
        hashlib.sha256(BLOCK).digest()
        times.append(time.perf_counter() - began)
    return np.array(times[repeats // 10 :]) * 1e3


def _others(before: Ticks, after: Ticks, own_s: float) -> Iterator[Finding]:
    total = max(after.total - before.total, 1)
    stolen = (after.stolen - before.stolen) / total
    yield Finding(
        f"other virtual machines took {stolen:.1%} of the time",
        ok=stolen <= STOLEN_LIMIT,
        advice="" if stolen <= STOLEN_LIMIT else "nothing here can prevent that; compare by latency_ratio alone",
    )
    cores, own = os.cpu_count() or 1, own_s * os.sysconf("SC_CLK_TCK")
    busy = max(after.busy - before.busy - own, 0.0) / total * cores
    yield Finding(
        f"other programs kept {busy:.1f} of {cores} cores busy",
        ok=busy <= BUSY_LIMIT,
        advice="" if busy <= BUSY_LIMIT else "end them before measuring",
    )


def clock(topology: Path = TOPOLOGY) -> Iterator[Finding]:
    """Whether the CPU's clock follows the load."""
    first = min(usable_cpus())
    governor = topology / f"cpu{first}" / "cpufreq" / "scaling_governor"
    if not governor.is_file():
        yield Finding("the system does not tell the clock's governor (a virtual machine does not know it)")
        return
    name = governor.read_text().strip()
    steady = name == "performance"
    advice = "" if steady else "for steady times: cpupower frequency-set -g performance"
    yield Finding(f"the clock's governor is {name}", ok=steady, advice=advice)


def energy(root: Path = POWERCAP) -> Iterator[Finding]:
    """Whether energy can be measured, and what the machine takes now."""
    try:
        counters = find_counters(root)
    except NoCounters as reason:
        yield Finding(f"energy will be missing: {reason}")
        return
    began, before = time.perf_counter(), read_uj(counters)
    time.sleep(0.2)
    spent, seconds = spent_uj(counters, before, read_uj(counters)), time.perf_counter() - began
    names = ", ".join(counter.name for counter in counters)
    if not spent:
        yield Finding(f"energy will be missing: the counters of {names} do not move, as in some virtual machines")
        return
    yield Finding(f"energy counters of {names}: {spent / 1e6 / seconds:.1f} W while nothing is measured")
