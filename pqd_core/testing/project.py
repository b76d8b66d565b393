"""A folder to run specs in: a host, a store, and what a run left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define

if TYPE_CHECKING:
    from pqd_core.host.plugins import Host
    from pqd_core.report import Report
    from pqd_core.spec import Spec


@define
class Project:
    """A host and a store in a folder of their own; specs are made of toys unless they say otherwise."""

    host: Host
    folder: Path

    @property
    def store(self) -> Path:
        """Where finished work is kept."""
        return self.folder / "store"

    def spec(self, **changes: Any) -> Spec:
        """A spec of toys that runs in a second; `changes` replace its top-level keys."""
        from pqd_core.host.read_spec import parse_spec
        from pqd_core.testing import toy_spec

        return parse_spec(toy_spec(**changes), self.host)

    def run(self, spec: Spec | None = None, out: str = "out", **options: Any) -> Report:
        """The report of a run of `spec`, in the folder `out`."""
        from pqd_core.run import run

        return run(spec or self.spec(), self.folder / out, store=self.store, host=self.host, **options)

    def log(self, out: str = "out") -> list[dict[str, Any]]:
        """Every event that a run logged."""
        return [json.loads(line) for line in (self.folder / out / "log.jsonl").read_text().splitlines()]
