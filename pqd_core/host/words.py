"""Numbers and names as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def lying_in(folder: Path, names: Sequence[str]) -> str:
    """`a is in FOLDER`, `a, b and c are in FOLDER`."""
    *most, last = names
    return f"{', '.join(most)} and {last} are in {folder}" if most else f"{last} is in {folder}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def quantity(value: float, unit: str) -> str:
    """A number as a person reads it: shares in percent, bytes in kB or MB, three or four digits."""
    if unit == "1":
        return f"{value * 100:.2f} %"
    if unit == "bytes":
        return f"{value / 1e3:,.0f} kB" if value < 1e7 else f"{value / 1e6:,.1f} MB"
    if value >= 1e6:
        return f"{value / 1e6:,.1f} M {unit}".rstrip()
    return f"{value:#.3g} {unit}" if abs(value) < 100 else f"{value:,.0f} {unit}"


def bare(spread: float, unit: str) -> str:
    """A spread beside its quantity, without the unit."""
    return f"{spread * 100:.2f}" if unit == "1" else f"{spread / 1e3:.0f}" if unit == "bytes" else f"{spread:.2g}"


def by_runtime(told: Mapping[str, str]) -> str:
    """`this on a and b; that on c`: what is told of several runtimes is told once."""
    groups: dict[str, list[str]] = {}
    for runtime, text in told.items():
        groups.setdefault(text, []).append(runtime)
    return "; ".join(f"{text} on {' and '.join(runtimes)}" for text, runtimes in groups.items())


def short_metric(name: str) -> str:
    """A metric's name without its unit: `latency` for `latency_ms`."""
    return name.removesuffix("_ms").removesuffix("_bytes")
