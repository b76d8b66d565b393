"""Energy counters of the CPU (RAPL), as Linux shows them under /sys/class/powercap; AMD's have Intel's names there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

POWERCAP = Path("/sys/class/powercap")
ZONE = re.compile(r"intel-rapl(:\d+)+")
COUNTED = re.compile(r"package-.*|dram")
"""A package's cores and graphics are in its own counter; `psys` counts the whole board, once more."""


class NoCounters(Exception):
    """Energy cannot be read here; the text says why."""


@frozen
class Counter:
    """One zone's running total in microjoules, which starts again at 0 after `limit_uj`."""

    name: str
    file: Path
    limit_uj: int

    def read_uj(self) -> int:
        """The total now."""
        return int(self.file.read_text())


def find_counters(root: Path = POWERCAP) -> list[Counter]:
    """The counters of all packages and their memory, each of which can be read.

    Raises:
        NoCounters: there are none, or this user may not read them.
    """
    zones = sorted(root.iterdir()) if root.is_dir() else []
    named = {zone: (zone / "name").read_text().strip() for zone in zones if ZONE.fullmatch(zone.name)}
    found = [
        Counter(name, zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
        for zone, name in named.items()
        if COUNTED.fullmatch(name)
    ]
    if not found:
        raise NoCounters(f"this machine shows no energy counters (RAPL) in {root}")
    try:
        read_uj(found)
    except OSError as error:
        where = error.filename or root
        raise NoCounters(f"the energy counter {where} cannot be read: {error.strerror or error}") from error
    return found


def read_uj(counters: Sequence[Counter]) -> list[int]:
    """The totals of all counters now."""
    return [counter.read_uj() for counter in counters]


def spent_uj(counters: Sequence[Counter], before: Sequence[int], after: Sequence[int]) -> int:
    """What all counters together went up by between two readings; each may have started again once."""
    return sum(
        end - start if end >= start else end - start + counter.limit_uj
        for counter, start, end in zip(counters, before, after, strict=True)
    )
