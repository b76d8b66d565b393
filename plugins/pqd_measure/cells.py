"""A metric's record and a number, or a reason, as a measurement."""

from __future__ import annotations

import math
from typing import Any

from pqd_core import Measurement, MetricDef


def number(
    metric: MetricDef, value: float, *, spread: float | None = None, n: int | None = None, **provenance: Any
) -> Measurement:
    """`value` as a measurement of `metric`; missing if it is not finite."""
    if not math.isfinite(value):
        return missing(metric, f"the measured value is {value}", **provenance)
    return Measurement(metric.name, value, metric.unit, metric.better, spread, n, provenance)


def missing(metric: MetricDef, reason: str, **provenance: Any) -> Measurement:
    """No number for `metric`, and why."""
    return Measurement(metric.name, None, metric.unit, metric.better, provenance=provenance, missing=reason)
