"""Reports that come from strangers: what may stand in their strings, and what a file must hold beyond its schema."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

if TYPE_CHECKING:
    from pqd_core.report import Report

NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but for line feed and tab, which steer terminals, and halves of surrogate pairs."""


class _Cpu(BaseModel):
    model: str = ""
    architecture: str = ""
    cores: int = 0
    flags: list[str] = []


class _Environment(BaseModel):
    cpu: _Cpu = _Cpu()
    versions: dict[str, str] = {}
    platform: str = ""
    python: str = ""
    device: str = ""
    accelerator: str | None = None


class _Plugin(BaseModel):
    name: str
    distribution: str
    version: str


PLUGINS = TypeAdapter(list[_Plugin])


def as_text(tree: Any) -> Any:
    """The tree of mappings and lists, its strings without what is no text."""
    if isinstance(tree, str):
        return NOT_TEXT.sub("", tree)
    if isinstance(tree, dict):
        return {as_text(key): as_text(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(map(as_text, tree))
    return tree


def no_constant(name: str) -> Any:
    """Refuse `NaN` and `Infinity`, which Python reads and JSON does not know.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is no number")


def check_foreign(report: Report) -> None:
    """What the report's forms rely on is so.

    Raises:
        ValueError: it is not.
    """
    if not all(map(math.isfinite, _numbers(report.model_dump()))):
        raise ValueError("a number is not finite")
    _Environment.model_validate(report.environment)
    PLUGINS.validate_python(report.plugins)
    known = {(row.pipeline, row.runtime) for row in report.rows}
    if unknown := {(s.pipeline, s.runtime) for s in report.analysis.summaries} - known:
        raise ValueError(f"the analysis tells of {unknown}, of which there is no row")


def _numbers(tree: Any) -> Iterator[float]:
    if isinstance(tree, float):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _numbers(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _numbers(value)
