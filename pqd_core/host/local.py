"""Stages of a script or a notebook, without a package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pqd_core.host.plugins import default_host
from pqd_core.records import StageDef

T = TypeVar("T")
LOCAL = "local"


def register_stage(**record: Any) -> Callable[[T], T]:
    """A decorator that makes a class with `restructure`, `run` and `freeze` a stage of this process.

    Takes the fields of `StageDef` except `load`; decorating again under the same name replaces the stage.

    Raises:
        TypeError, ValueError: a field is unknown or wrong, or clashes with what is installed.
    """

    def register(implementation: T) -> T:
        ready = implementation() if isinstance(implementation, type) else implementation
        default_host().add(LOCAL, StageDef(load=ready, **record))
        return implementation

    return register
