"""Zero points, taken off."""

from __future__ import annotations

import numpy as np


def without_zero_point(array: np.ndarray, zero_point: np.ndarray, axis: int) -> np.ndarray:
    """`array` less its zero point, which is a scalar or has one entry for each index of `axis`."""
    if not zero_point.any():
        return array
    shape = [1] * array.ndim
    if zero_point.size > 1:
        shape[axis] = zero_point.size
    return array.astype(np.int32) - zero_point.reshape(shape).astype(np.int32)
