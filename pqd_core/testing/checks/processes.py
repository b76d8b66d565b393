"""What is asked of a record from a fresh process: what importing brings along, and whether keys stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

from pqd_core.host.entries import FOR_KEY
from pqd_core.host.keys import canonical_json
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.checks.records import read_again
from pqd_core.testing.workshop import workshop

IMPORTING = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"importing {name} imports torch")
"""
READING = """
import importlib, json, operator, sys
from pqd_core.host.keys import canonical_json
from pqd_core.testing.checks.processes import FOR_KEY
settings = operator.attrgetter(sys.argv[2])(importlib.import_module(sys.argv[1]))
print(canonical_json(settings.model_validate_json(sys.argv[3]).model_dump(mode="json", context=FOR_KEY)))
"""


def _roots(case: Case) -> tuple[str, ...]:
    """The modules that are imported when records are collected: those of the settings, and what holds the code."""
    load, settings = case.component.load, case.component.settings.__module__
    package = load.partition(":")[0] if isinstance(load, str) else ""
    root = package.rpartition(".")[0] or package
    return tuple(sorted({name for name in (root, settings) if name and not name.startswith("pqd_core.")}))


@check(asked=lambda case: isinstance(case.component.load, str))
def root_imports_no_torch(case: Case) -> None:
    """Collecting the record imports no torch, so that `pqd plan` answers at once."""
    problem = _problem_of_importing(_roots(case))
    require(not problem, f"{problem}; import it in the module that `load` names")


@cache
def _problem_of_importing(roots: tuple[str, ...]) -> str:
    return _fresh(IMPORTING, *roots).stderr.strip()


def _fresh(code: str, *arguments: str, seed: str = "1") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@check()
def keys_are_stable(case: Case) -> None:
    """The content key of a request is the same each time, after its settings were written and read, and elsewhere."""
    shop = workshop(case)
    first, again = shop.entry.identity(), shop.entry.identity()
    require(first == again, f"identity gave {first}, then {again}; a fingerprint has to depend on its settings alone")
    key = _key_part(shop.settings)
    read = _key_part(read_again(case, shop.settings.model_dump_json()))
    require(read == key, f"{key} became {read} when the settings were written and read")
    if _has_sets(case.component.settings):
        for seed in "12":
            elsewhere = _key_elsewhere(case, seed)
            require(elsewhere == key, f"{key} is {elsewhere} in another process; write a set as a sorted list")


def _key_part(settings: Any) -> str:
    return canonical_json(settings.model_dump(mode="json", context=FOR_KEY))


def _has_sets(settings: Any) -> bool:
    """Whether a value has no order of its own, so that its hash's seed decides."""
    return '"uniqueItems": true' in json.dumps(settings.model_json_schema())


def _key_elsewhere(case: Case, seed: str) -> str:
    settings = case.component.settings
    done = _fresh(
        READING, settings.__module__, settings.__qualname__, workshop(case).settings.model_dump_json(), seed=seed
    )
    require(not done.returncode, f"the settings cannot be read in a fresh process: {done.stderr[-500:]}")
    return done.stdout.strip()
