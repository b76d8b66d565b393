"""A bench to try the core on: a host of toys, a store, and specs that run in a tenth of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import define

from pqd_core import Report, Spec, run
from pqd_core.host.plugins import Host
from pqd_core.host.read_spec import parse_spec
from pqd_core.testing import toy_spec

LIGHT = {"runtimes": ["light"], "measure": ["toy-accuracy", "light-size"], "baseline": {"epochs": 0}}


def light_spec(**changes: Any) -> dict[str, Any]:
    """A spec of toys that runs in a tenth of a second: an untrained baseline, and noise for training."""
    return toy_spec(**{"stages": ["nudge"], **LIGHT, **changes})


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@define
class Bench:
    """A host and a store in a folder of the test's own; specs are made of light parts unless they say otherwise."""

    host: Host
    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def spec(self, **changes: Any) -> Spec:
        return parse_spec(light_spec(**changes), self.host)

    def run(self, spec: Spec | None = None, out: str = "out", **options: Any) -> Report:
        return run(spec or self.spec(), self.folder / out, store=self.store, host=self.host, **options)

    def log(self, out: str = "out") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / out / "log.jsonl").read_text().splitlines()]
