"""The kit for plugin authors: checks of the contract, and toys to try a plugin on without training anything large.

Importing it brings no torch and no pytest.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pqd_core.host.plugins import Host, new_host, register_plugin
from pqd_core.testing.case import Case, CheckFailed
from pqd_core.testing.kit import Outcome, parametrize_with_checks, run_checks
from pqd_core.testing.project import Project

__all__ = [
    "Case",
    "CheckFailed",
    "Outcome",
    "Project",
    "parametrize_with_checks",
    "run_checks",
    "toy_host",
    "toy_spec",
]


def toy_host(*modules: ModuleType, records: tuple[Any, ...] = ()) -> Host:
    """A host with the toy plugin, the given plugin modules and single records, and nothing that is installed."""
    from pqd_core.testing import toys

    host = new_host()
    for module in (toys, *modules):
        host.plugins.append(register_plugin(host, module, module.__name__.rpartition(".")[2]))
    for record in records:
        host.add("given", record)
    return host


def toy_spec(**changes: Any) -> dict[str, Any]:
    """A spec of toys that runs in a second, as a mapping; `changes` replace top-level keys."""
    spec = {
        "backbone": "toy-net",
        "dataset": "toy-blobs",
        "baseline": {"epochs": 2, "batch_size": 32, "lr": 0.05, "augment": False},
        "stages": ["toy-tune"],
        "budget": {"epochs": 1},
        "threads": 1,
        "device": "cpu",
    }
    return {**spec, **changes}
