"""How much of the trained weights rounding lost: the deployed file's integers against what they were made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pqd_core import Deployed, MeasureContext, Measurement, Settings
from pqd_measure import QUANTIZATION_ERROR
from pqd_measure.cells import missing, number

COUNTED = (
    "share of the squared trained weights that is left when each output channel of the stored integers is scaled to "
    "fit them best, so that folded batch norms and the runtime's scales do not matter"
)


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: the share lost over all its integer weights, and layer by layer in the provenance."""
    return [[_measure_one(candidate, context)] for candidate in candidates]


def _measure_one(candidate: Deployed, context: MeasureContext) -> Measurement:
    stored = {layer: weight for layer, weight in context.weights(candidate).items() if weight.dtype.kind in "iu"}
    if not stored:
        return missing(QUANTIZATION_ERROR, "the deployed file stores its weights as floating-point numbers")
    trained = context.trained_weights(candidate)
    pairs = {layer: pair for layer, weight in stored.items() if (pair := _pair(layer, weight, trained))}
    if not pairs:
        return missing(QUANTIZATION_ERROR, "no layer of the file has the name and the shape of a trained one")
    found = {layer: lost_energy(*pair) for layer, pair in pairs.items()}
    lost, energy = (sum(column) for column in zip(*found.values(), strict=True))
    return number(
        QUANTIZATION_ERROR,
        lost / energy if energy else 0.0,
        n=sum(weight.size for weight, _ in pairs.values()),
        layers={layer: part / whole if whole else 0.0 for layer, (part, whole) in found.items()},
        not_compared=sorted(set(stored) - set(pairs)),
        counted=COUNTED,
    )


def _pair(layer: str, stored: np.ndarray, trained: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The trained weight of a layer and the stored one in the same layout; None if they cannot be told to be one."""
    weight = trained.get(layer)
    if weight is None or weight.size != stored.size:
        return None
    if stored.shape == weight.shape[::-1] and weight.ndim == 2 and stored.shape != weight.shape:
        stored = stored.T  # matrix products may store their weight the other way round
    return (weight, stored) if stored.shape == weight.shape else None


def lost_energy(trained: np.ndarray, stored: np.ndarray) -> tuple[float, float]:
    """(what is left of the squared trained weights, all of them), the output channels first in both arrays."""
    weights, integers = (array.reshape(len(array), -1).astype(np.float64) for array in (trained, stored))
    squares = (integers**2).sum(1)
    scales = (weights * integers).sum(1) / np.where(squares, squares, 1.0)
    return float(((weights - scales[:, None] * integers) ** 2).sum()), float((weights**2).sum())
