"""Where the Python source of a `module:callable` lies, found without running any of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from pqd_core import DataError, Problem

WHERE = "backbone.python.target"


def is_file(module: str) -> bool:
    """Whether the part before the colon is a path rather than a module's name."""
    return module.endswith(".py")


def find_source(target: str) -> Path:
    """The file that `module:callable` or `path/to/file.py:callable` names; the current folder comes first.

    Raises:
        DataError: there is no such module or file, or it has no source.
    """
    module = target.rpartition(":")[0]
    if is_file(module):
        source = Path(module).expanduser().absolute()
        if not source.is_file():
            raise DataError(Problem(WHERE, f"there is no file {source}", "correct the path"))
        return source
    spec = _find_spec(module)
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        what = f"there is no module {module} with a source file, here ({Path.cwd()}) or installed"
        raise DataError(
            Problem(WHERE, what, "run pqd where the module lies, or name its file: path/to/file.py:callable")
        )
    return Path(spec.origin)


def _find_spec(module: str) -> ModuleSpec | None:
    # importlib.util.find_spec would import the parents of a dotted name, and run them.
    found: ModuleSpec | None = None
    path: Sequence[str] | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        found = _ask_finders(".".join(parts[:depth]), path)
        if found is None or (depth < len(parts) and found.submodule_search_locations is None):
            return None
        path = list(found.submodule_search_locations or ())
    return found


def _ask_finders(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    here = None if path is not None else PathFinder.find_spec(name, [str(Path.cwd())])
    if here and here.origin:
        return here
    specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    # A bare folder is a module too, the last choice.
    return next((spec for spec in specs if spec is not None), here)
