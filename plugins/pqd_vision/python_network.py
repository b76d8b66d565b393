"""The user's own network: whatever a callable of a module or of a Python file makes."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pqd_core import DataError, DataInfo, Problem
from pqd_vision.fingerprints import python_network as fingerprint
from pqd_vision.network_check import check_network
from pqd_vision.settings import PythonNetwork
from pqd_vision.source import WHERE, find_source, is_file

_imported: dict[str, str] = {}
"""Fingerprint of each module's source when this process first imported it here."""


def build(settings: PythonNetwork, info: DataInfo) -> nn.Module:
    """What the callable returns, given `kwargs` and, where it names them, `num_classes` and `in_channels`.

    Raises:
        DataError: the callable is missing, raises, or returns no network for this data; the cause is chained.
    """
    target = settings.target
    make = load_callable(settings)
    try:
        network = make(**arguments(make, settings, info))
    except Exception as error:
        raise _failed(target, "raised", error) from error
    if not isinstance(network, nn.Module):
        what = f"{target} returned a {type(network).__name__}, expected a torch.nn.Module"
        raise DataError(Problem(WHERE, what, "return the network itself"))
    check_network(network, info, f"{WHERE} ({target})", "the images are the dataset's, the classes too")
    return network


def arguments(make: Callable[..., Any], settings: PythonNetwork, info: DataInfo) -> dict[str, Any]:
    """The user's `kwargs` over what the callable's signature names of the data."""
    known = {"num_classes": info.num_classes, "in_channels": info.shape[0]}
    try:
        named = set(inspect.signature(make).parameters)
    except ValueError:  # a callable written in C may not tell
        named = set()
    return {name: value for name, value in known.items() if name in named} | settings.kwargs


def load_callable(settings: PythonNetwork) -> Callable[..., Any]:
    """What the target names, its module imported.

    Raises:
        DataError: the module cannot be imported, or has no such callable.
    """
    module_name, _, name = settings.target.rpartition(":")
    source, digest = find_source(settings.target), fingerprint(settings)
    try:
        module = _import_file(source, digest) if is_file(module_name) else _import_module(module_name, digest)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # a script without a main guard may leave
        raise _failed(settings.target, "cannot be imported:", error) from error
    try:
        found = attrgetter(name)(module)
    except AttributeError as error:
        hint = "correct the name behind the colon"
        raise DataError(Problem(WHERE, f"{settings.target}: {source} has no {name}", hint)) from error
    if not callable(found):
        raise DataError(Problem(WHERE, f"{settings.target} is a {type(found).__name__}, not a callable"))
    return found  # type: ignore[no-any-return]


def _import_file(source: Path, digest: str) -> ModuleType:
    name = f"pqd_python_{source.stem}_{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, source)
    assert spec is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with _first_on_path(source.parent):
            # Not by the loader: its bytecode cache takes an edit within one second for the file it knows.
            exec(compile(source.read_bytes(), source, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, digest: str) -> ModuleType:
    if _imported.get(name, digest) != digest:
        what = f"the source of {name} has changed since this process imported it"
        raise DataError(Problem(WHERE, what, "restart Python, so that what runs is what the file says"))
    with _first_on_path(Path.cwd()):
        module = importlib.import_module(name)
    _imported[name] = digest
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Imports look into `folder` first, as `python -m` and `python file.py` do."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):  # unless what was imported took it off itself
            sys.path.remove(str(folder))


def _failed(target: str, verb: str, error: BaseException) -> DataError:
    return DataError(Problem(WHERE, f"{target} {verb} {type(error).__name__}: {error}", "correct it and run again"))
