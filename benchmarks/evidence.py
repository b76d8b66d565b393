"""Results with their evidence: what was measured, on what, when, by which command."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pqd_core.host.environment import describe_environment

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, numbers: dict[str, Any], *, threads: int, seeds: list[int], device: str = "cpu") -> Path:
    """`results/NAME.json` holds the numbers and everything that is needed to judge or repeat them."""
    result = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": seeds,
        "environment": describe_environment(threads, device),
        "numbers": numbers,
    }
    file = RESULTS / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {file}")
    return file


def interval(values: list[float], seed: int = 0, resamples: int = 10_000) -> list[float]:
    """The 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(values, (resamples, len(values))), axis=1)
    return [float(x) for x in np.percentile(medians, [2.5, 97.5])]


def summary(values: list[float]) -> dict[str, Any]:
    """Median, interval and count of some observations."""
    return {"median": median(values), "interval_95": interval(values), "n": len(values), "values": values}
