"""What `pqd doctor` finds out without any plugin: the CPU, threads, memory, the store, and the plugins themselves."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from pqd_core.host.environment import describe_cpu, package_version, usable_cores
from pqd_core.records import CheckupDef, Finding

CGROUP = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")
POOLS = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TBB_NUM_THREADS",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "OMP_PROC_BIND",
)
"""Variables with which a person, or a scheduler, sets the threads of numeric libraries."""
DOT_PRODUCTS = {"avx_vnni", "avx512_vnni", "avx512vnni", "amx_int8", "asimddp", "i8mm"}
GIB = 2**30


def version() -> Iterator[Finding]:
    """pqd, Python and the system."""
    yield Finding(f"pqd {package_version('pqd')}, Python {platform.python_version()}, {platform.platform()}")


def cpu() -> Iterator[Finding]:
    """The model, and its instructions for INT8."""
    found = describe_cpu()
    yield Finding(f"{found['model']}, {found['architecture']}")
    flags = ", ".join(found["flags"]) or "none that is known"
    fast = bool(DOT_PRODUCTS & set(found["flags"]))
    advice = (
        "" if fast else "without dot-product instructions (VNNI) INT8 gains less, and full-range weights may saturate"
    )
    yield Finding(f"instructions for INT8: {flags}", ok=fast, advice=advice)


def threads(cgroup: Path = CGROUP, topology: Path = TOPOLOGY) -> Iterator[Finding]:
    """How many cores there are to use, and what holds threads back."""
    usable, there = usable_cores(), os.cpu_count() or 1
    advice = "" if usable == there else "the affinity of this process leaves the others out (taskset, a container)"
    yield Finding(f"{usable} of {there} logical cores are usable", ok=usable == there, advice=advice)
    if (physical := _physical_cores(topology)) and physical < there:
        yield Finding(
            f"two threads share a core: {physical} physical cores",
            advice=f"set threads to {min(physical, usable)} at most",
        )
    if (quota := cpu_quota(cgroup)) is not None:
        enough = quota >= usable
        yield Finding(
            f"a CPU quota allows {quota:g} cores",
            ok=enough,
            advice="" if enough else f"set threads to {max(1, int(quota))}: more are throttled in slices",
        )
    for name in POOLS:
        if value := os.environ.get(name):
            yield Finding(f"{name}={value} is set", ok=False, advice="unset it if training should use all cores")


def _physical_cores(topology: Path) -> int:
    siblings = topology.glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({file.read_text().strip() for file in siblings})


def cpu_quota(cgroup: Path = CGROUP) -> float | None:
    """Cores' worth of time that the control group of this process gets; None without a limit."""
    new, old = cgroup / "cpu.max", cgroup / "cpu" / "cpu.cfs_quota_us"
    try:
        if new.is_file():
            quota, period = new.read_text().split()
        elif old.is_file():
            quota, period = old.read_text().strip(), old.with_name("cpu.cfs_period_us").read_text()
        else:
            return None
    except OSError:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def memory() -> Iterator[Finding]:
    """How much is free."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        yield Finding("this system does not tell its memory")
        return
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines()}
    free, total = sizes["MemAvailable"], sizes["MemTotal"]
    yield Finding(
        f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free",
        ok=free > 2 * GIB,
        advice="" if free > 2 * GIB else "end other programs: training and OpenVINO take a few GiB",
    )


def store() -> Iterator[Finding]:
    """Where finished work is kept, and how much room is there."""
    from pqd_core.host.paths import default_store

    folder = default_store()
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    yield Finding(
        f"{folder}, {free / GIB:.1f} GiB free",
        ok=free > GIB,
        advice="" if free > GIB else "make room, or set PQD_STORE to another disk",
    )
    if not os.access(there, os.W_OK):
        yield Finding(f"{there} cannot be written", ok=False, advice="set PQD_STORE to a folder of yours")


def plugins() -> Iterator[Finding]:
    """Which plugins are loaded, and which could not be."""
    from pqd_core.host.plugins import default_host

    found = default_host().plugins
    names = [plugin.name for plugin in found if plugin.error is None]
    yield Finding(
        f"loaded: {', '.join(names) or 'none'}", ok=bool(names), advice="" if names else "pip install pqd again"
    )
    for plugin in found:
        if plugin.error is not None:
            who = f"{plugin.name} ({plugin.distribution} {plugin.version})"
            yield Finding(f"{who} failed to load: {plugin.error}", ok=False, advice="mend it or uninstall it")


CHECKUPS = [
    CheckupDef(name=check.__name__, summary=check.__doc__ or "", load=check)
    for check in (version, cpu, threads, memory, store, plugins)
]
