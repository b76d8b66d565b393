"""`pqd doctor`: every checkup, the core's first, each finding told as soon as it is known."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from pqd_core.host.checkups import CHECKUPS
from pqd_core.host.plugins import Host
from pqd_core.host.registry import Owned
from pqd_core.records import CheckupDef, Finding, resolve


@frozen
class Told:
    """A finding, and whose it is."""

    plugin: str
    checkup: str
    finding: Finding

    def __str__(self) -> str:
        found = self.finding
        mark = "ok" if found.ok else "! "
        return f"{mark}  {self.checkup + ':':<12} {found.text}" + (f"; {found.advice}" if found.advice else "")


def examine(host: Host) -> Iterator[Told]:
    """All findings; a checkup that fails is one itself."""
    for owned in [*(Owned("core", record) for record in CHECKUPS), *host.registry("checkup")]:
        for finding in _findings(owned):
            yield Told(owned.plugin, owned.record.name, finding)


def _findings(owned: Owned[CheckupDef]) -> Iterator[Finding]:
    try:
        for finding in resolve(owned.record.load)():
            if not isinstance(finding, Finding):
                raise TypeError(f"gave {finding!r}, which is no Finding")
            yield finding
    except (Exception, SystemExit) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        what = f"the checkup failed: {type(error).__name__}: {reason}"
        yield Finding(what, ok=False, advice=f"it comes from the plugin {owned.plugin}; see pqd plugins -v")
