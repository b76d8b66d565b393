"""How long the threads of this process were ready to run and did not get a core, as Linux counts it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")
DISTURBED = 0.01
"""A turn whose threads waited for longer than this share of it tells of other programs as well."""


def waited_ns(tasks: Path = TASKS) -> dict[str, int]:
    """Nanoseconds by thread (the second field of `schedstat`); nothing where the system does not say."""
    found = {}
    for task in tasks.iterdir() if tasks.is_dir() else ():
        with suppress(OSError, IndexError, ValueError):  # a thread may end meanwhile
            found[task.name] = int((task / "schedstat").read_text().split()[1])
    return found


def waited_share(before: dict[str, int], after: dict[str, int], span_ns: int) -> float:
    """The waiting of all threads together between two readings, as a share of the time that passed."""
    return sum(total - before.get(task, 0) for task, total in after.items()) / span_ns
