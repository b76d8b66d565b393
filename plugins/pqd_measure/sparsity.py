"""Share of exact zeros among the weights that the deployed file stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pqd_core import Deployed, MeasureContext, Measurement, Settings
from pqd_measure import SPARSITY
from pqd_measure.cells import missing, number

COUNTED = "weights of convolutions and linear layers as stored; one that was rounded to zero counts as zero"


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: zeros over all its weights, and layer by layer in the provenance."""
    return [[_measure_one(candidate, context)] for candidate in candidates]


def _measure_one(candidate: Deployed, context: MeasureContext) -> Measurement:
    weights = context.weights(candidate)
    total = sum(weight.size for weight in weights.values())
    if not total:
        return missing(SPARSITY, "the deployed file stores no weight of a convolution or linear layer")
    zeros = {layer: weight.size - int(np.count_nonzero(weight)) for layer, weight in weights.items()}
    by_layer = {layer: zeros[layer] / weight.size for layer, weight in weights.items() if weight.size}
    return number(SPARSITY, sum(zeros.values()) / total, n=total, layers=by_layer, counted=COUNTED)
