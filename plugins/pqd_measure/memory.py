"""The memory that a loaded file takes in its process, as Linux counts it, and a limit to it."""

from __future__ import annotations

import ctypes
import re
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

PROC = Path("/proc/self")
FIELD = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$", re.MULTILINE)
RESET_PEAK = "5"
"""What Linux wants to be written to `clear_refs` (proc_pid_clear_refs(5))."""


@frozen
class Held:
    """Bytes that a process holds now."""

    resident: int
    """All pages in memory, those of libraries included."""
    proportional: int
    """The same, each shared page divided by the processes that share it."""
    anonymous: int
    """Pages of no file: heap, stacks, buffers."""


class Watch:
    """Watches what a file adds to this process: made before it is opened, `loaded` once it has run, `told` at the end.

    The pages of the runtime's own code that are touched for the first time meanwhile are left out: they are the same
    for every file, are shared by all processes, and would hide a small network.
    """

    def __init__(self) -> None:
        self._problem: str | None = None
        try:
            forget_peak()
            self._before = held()
        except (OSError, KeyError) as error:
            self._problem = f"this system does not tell a process's memory ({error})"

    def loaded(self, file: Path) -> None:
        """The file is open and has run once; peaks count anew from here on."""
        if self._problem is None:
            self._loading = peak() - self._before.resident
            forget_peak()
            self._rest, self._mapped = held(), mapped(file)

    def told(self) -> dict[str, Any]:
        """`memory_bytes`, and what it is made of; or why it is not known, as `missing`."""
        if self._problem is not None:
            return {"missing": self._problem}
        grown = self._rest.anonymous - self._before.anonymous
        above = max(peak() - self._rest.resident, 0)
        return {
            "memory_bytes": grown + self._mapped + above,
            "loaded_bytes": grown,
            "mapped_file_bytes": self._mapped,
            "inference_bytes": above,
            "loading_peak_bytes": self._loading,
            "process_bytes": self._rest.resident,
            "process_proportional_bytes": self._rest.proportional,
        }


def held() -> Held:
    """What this process holds.

    Raises:
        OSError: the system does not say.
    """
    sizes = _sizes((PROC / "smaps_rollup").read_text())
    return Held(sizes["Rss"], sizes["Pss"], sizes["Anonymous"])


def mapped(file: Path) -> int:
    """Bytes of `file`, or of one beside it with the same name and another suffix, that are mapped into memory."""
    stem, total = str(file.resolve().with_suffix("")), 0
    blocks = MAPPING.split((PROC / "smaps").read_text())
    for path, block in zip(blocks[1::2], blocks[2::2], strict=True):
        if path and str(Path(path).with_suffix("")) == stem:
            total += _sizes(block)["Rss"]
    return total


def forget_peak() -> None:
    """From here on `above_now` counts anew; memory that was freed has gone back to the system before."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what was freed
    (PROC / "clear_refs").write_text(RESET_PEAK)


def peak() -> int:
    """The most that was resident since `forget_peak`."""
    return _sizes((PROC / "status").read_text())["VmHWM"]


def limit_memory(megabytes: int) -> None:
    """No more than that can be allocated by this process; what asks for more fails."""
    size = megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _sizes(text: str) -> dict[str, int]:
    return {name: int(kilobytes) * 1024 for name, kilobytes in FIELD.findall(text.replace("\t", " "))}
