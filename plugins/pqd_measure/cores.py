"""Which CPUs to pin a measurement to."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def usable_cpus() -> set[int]:
    """Numbers of the logical CPUs that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def pick_cpus(count: int, usable: Collection[int], topology: Path = TOPOLOGY) -> list[int]:
    """`count` of the usable logical CPUs, or all if there are fewer; one of each physical core while there are any.

    Two threads on the two halves of one core would share its vector units.
    """
    first: dict[str, int] = {}
    for cpu in sorted(usable):
        first.setdefault(_physical_core(cpu, topology), cpu)
    return [*first.values(), *sorted(set(usable) - set(first.values()))][:count]


def _physical_core(cpu: int, topology: Path) -> str:
    siblings = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    return siblings.read_text().strip() if siblings.is_file() else str(cpu)
