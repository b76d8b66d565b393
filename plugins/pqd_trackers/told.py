"""What both trackers tell: names that sort well, settings one by one, numbers by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pqd_core import Artifact, Row, Step


def title(step: Step) -> str:
    """A name for a step that tells pipelines, seeds and settings apart."""
    return f"{step.label}-seed{step.seed}-{step.key[:8]}"


def settings(step: Step) -> dict[str, str]:
    """What was asked of a step, nested settings with dots in their names."""
    asked = step.stage.flat() if step.stage else {}
    return {name: str(value) for name, value in _flat(asked, "")} | {"epochs": str(step.epochs), "seed": str(step.seed)}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def curve(artifact: Artifact) -> Iterator[tuple[int, dict[str, float]]]:
    """(epoch, numbers by name) of each entry of the training curve, numbered from 1."""
    for number, entry in enumerate(artifact.about["history"], 1):
        yield number, {f"train/{name}": float(value) for name, value in entry.items() if name != "epoch"}


def numbers(row: Row) -> dict[str, float]:
    """The measured numbers of a deployed file, and half of their 95 % intervals; missing ones are left out."""
    values = {f"{row.runtime}/{name}": metric.value for name, metric in row.metrics.items()}
    spreads = {f"{row.runtime}/{name}_spread": m.spread for name, m in row.metrics.items() if m.value is not None}
    return {name: number for name, number in (values | spreads).items() if number is not None}
