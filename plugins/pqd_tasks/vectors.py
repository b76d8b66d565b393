"""What both tasks ask of their labels."""

from __future__ import annotations

import numpy as np


def check_vectors(targets: np.ndarray, outputs: int) -> list[str]:
    """What is wrong with labels that should be (N, outputs); nothing if they are."""
    if targets.ndim == 2 and targets.shape[1] == outputs:
        return []
    return [f"labels are {targets.shape}, expected {outputs} numbers for each image"]
