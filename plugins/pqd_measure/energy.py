"""Energy counters of the CPU (RAPL), as Linux shows them under /sys/class/powercap; AMD's have Intel's names there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

POWERCAP = Path("/sys/class/powercap")
ZONE = re.compile(r"intel-rapl(:\d+)+")
"""Not `intel-rapl-mmio:0`, which is a second view of the same package."""
COUNTED = re.compile(r"package-.*|dram")
"""A package's cores and graphics are in its own counter; `psys` counts the whole board, once more."""
TICK_MS = 1.0
"""The counters move about once in a millisecond."""
LEAST_TICKS = 20
"""In a span of fewer, one tick too many or too few is more than 5 %."""
ROOT_ONLY = (
    "only root may read it, because it tells a little of what other programs compute (CVE-2020-8694); "
    "to allow it until the next start: sudo chmod a+r {root}/intel-rapl:*/energy_uj"
)
HIDDEN = "it is not there, as in a container that hides the machine's counters; measure outside of it"


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
    try:
        found = list(_counters(root))
        for counter in found:
            counter.read_uj()
    except PermissionError as error:
        raise NoCounters(_unread(error, root, ROOT_ONLY.format(root=root))) from error
    except FileNotFoundError as error:
        raise NoCounters(_unread(error, root, HIDDEN)) from error
    except (OSError, ValueError) as error:
        raise NoCounters(_unread(error, root, getattr(error, "strerror", None) or str(error))) from error
    if not found:
        raise NoCounters(f"this machine shows no energy counters (RAPL) in {root}")
    return found


def _counters(root: Path) -> Iterator[Counter]:
    """Zones lie side by side here, those within others too."""
    for zone in sorted(root.iterdir()) if root.is_dir() else ():
        if ZONE.fullmatch(zone.name) and COUNTED.fullmatch(name := (zone / "name").read_text().strip()):
            yield Counter(name, zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))


def _unread(error: Exception, root: Path, why: str) -> str:
    return f"the energy counter {getattr(error, 'filename', None) or root} cannot be read: {why}"


def read_uj(counters: Sequence[Counter]) -> list[int] | None:
    """The totals of all counters now; None if there is none, or one has gone (its package was switched off)."""
    try:
        return [counter.read_uj() for counter in counters] or None
    except (OSError, ValueError):
        return None


def spent_uj(counters: Sequence[Counter], before: Sequence[int] | None, after: Sequence[int] | None) -> int | None:
    """What all counters together went up by between two readings; each may have started again once."""
    if before is None or after is None:
        return None
    return sum(
        end - start if end >= start else end - start + counter.limit_uj
        for counter, start, end in zip(counters, before, after, strict=True)
    )
