"""What `pqd bench` found as a table for a terminal, and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from math import floor
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pqd_core import describe_cpu
from pqd_measure import INT8_SHARE, TIMED_METRICS
from pqd_measure.bench_files import BenchFile
from pqd_measure.comparison import Comparison, sentences
from pqd_measure.estimates import SPREAD_IS, Estimate
from pqd_measure.findings import HOW, Found, Missing, caution, details, provenance
from pqd_measure.work import Work

TITLES = {
    "latency_ms": "latency",
    "latency_p95_ms": "p95",
    "latency_ratio": "ratio",
    "throughput_ips": "images/s",
    "load_ms": "load",
    "first_ms": "first",
    "memory_bytes": "memory",
    "energy_mj": "energy",
}
UNITS = {metric.name: metric.unit for metric in TIMED_METRICS}


def as_text(compared: Comparison) -> str:
    """The table and what it says, for a terminal."""
    lines = [_table(compared)] if compared.standing else []
    return "\n".join([*lines, *(f"- {sentence}" for sentence in sentences(compared))])


def _table(compared: Comparison) -> str:
    shown = [name for name in TITLES if any(isinstance(found[name], Estimate) for found in compared.found.values())]
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for title in ("file", "runtime"):
        table.add_column(title, overflow="fold")
    for title in (*(TITLES[name] for name in shown), "size", "INT8"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in compared.files:
        if compared.timed[one.label].failure is None:
            cells = [_cell(name, compared.found[one.label][name]) for name in shown]
            table.add_row(
                Text(one.label), one.runtime.name, *cells, _bytes(one.size_bytes), share_text(compared.work[one.label])
            )
    text = StringIO()
    Console(file=text, width=400, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def share_text(work: Work | Missing) -> str:
    """Rounded down: 100 % is all of it."""
    return "missing" if isinstance(work, Missing) else f"{floor(work.share * 1000) / 10:g}%"


def _cell(name: str, found: Found) -> str:
    if isinstance(found, Missing):
        return "missing"
    reach = f" ± {found.relative:.1%}" if found.relative < 1 else " ± over 100%"
    if name == "latency_ms":
        return f"{_digits(found.value)} ms{reach}"
    if name == "latency_ratio":
        return f"{found.value:.3f}" + (reach if found.spread else "")
    if UNITS[name] == "bytes":
        return _bytes(found.value)
    return f"{found.value:,.0f}" if name == "throughput_ips" else f"{_digits(found.value)} {UNITS[name]}"


def _digits(value: float) -> str:
    return f"{value:#.3g}" if value < 100 else f"{value:,.0f}"


def _bytes(size: float) -> str:
    return f"{size / 1e3:,.0f} kB" if size < 1e7 else f"{size / 1e6:,.1f} MB"


def as_json(compared: Comparison) -> dict[str, Any]:
    """Everything that was found, and what is needed to judge it."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": describe_cpu(),
        "threads": compared.threads,
        "settings": compared.settings.model_dump(mode="json"),
        "images": compared.images_are,
        "baseline": compared.baseline.label,
        "spread_is": SPREAD_IS,
        "files": [_file_json(compared, one) for one in compared.files],
        "says": sentences(compared),
    }


def _file_json(compared: Comparison, one: BenchFile) -> dict[str, Any]:
    timed = compared.timed[one.label]
    told: dict[str, Any] = {
        "label": one.label,
        "file": str(one.file),
        "runtime": one.runtime.name,
        "versions": {name: _version(name) for name in one.runtime.requires},
        "settings": one.settings.model_dump(mode="json"),
        "size_bytes": one.size_bytes,
    }
    if timed.failure is not None:
        return told | {"missing": timed.failure}
    work = compared.work[one.label]
    more, found = details(timed), compared.found[one.label]
    return told | {
        "caution": caution(timed, found, compared.settings),
        "how": provenance(timed, compared.settings, compared.threads),
        "metrics": {name: _metric_json(name, finding) | more.get(name, {}) for name, finding in found.items()},
        INT8_SHARE.name: {"value": None, "missing": work.reason} if isinstance(work, Missing) else _work_json(work),
    }


def _work_json(work: Work) -> dict[str, Any]:
    return {"value": work.share, "n": work.macs, **work.told()}


def _metric_json(name: str, finding: Found) -> dict[str, Any]:
    if isinstance(finding, Missing):
        return {"value": None, "unit": UNITS[name], "missing": finding.reason}
    measured = {"measured": HOW[name]} if name in HOW else {}
    interval = [finding.low, finding.high]
    return {"value": finding.value, "unit": UNITS[name], "spread": finding.spread, "interval": interval, **measured}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
