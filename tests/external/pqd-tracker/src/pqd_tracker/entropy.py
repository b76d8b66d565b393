"""Zero-order entropy of the weights that a deployed file stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pqd_core import Deployed, MeasureContext, Measurement, Settings
from pqd_tracker import ENTROPY


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """One number for each file."""
    return [[_measurement(context.weights(deployed))] for deployed in candidates]


def _measurement(weights: dict[str, np.ndarray]) -> Measurement:
    if not weights:
        return Measurement(ENTROPY.name, None, ENTROPY.unit, ENTROPY.better, missing="the file stores no weights")
    values = np.concatenate([weight.ravel() for weight in weights.values()])
    return Measurement(ENTROPY.name, entropy_bits(values), ENTROPY.unit, ENTROPY.better, n=len(values))


def entropy_bits(values: np.ndarray) -> float:
    """Shannon's entropy of how often each value occurs."""
    share = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(share * np.log2(share)).sum())
