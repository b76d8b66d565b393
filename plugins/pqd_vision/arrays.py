"""What the datasets that fit in memory share."""

from __future__ import annotations

import numpy as np

from pqd_core import Arrays, DataError, Problem, stratified_subset

CHUNK = 4096
"""Images counted at once; keeps the counting below some 100 MB whatever the dataset's size."""


def subset(labels: np.ndarray, limit: int | None, where: str) -> np.ndarray:
    """Indices of a stratified subset of `limit` images, or of all.

    Raises:
        DataError: there are fewer images; `where` is the setting's place.
    """
    if limit is None:
        return np.arange(len(labels))
    if limit > len(labels):
        what = f"{limit} images were asked for, there are {len(labels)}"
        raise DataError(Problem(where, what, "choose a smaller limit, or none"))
    return stratified_subset(labels, limit)


def limited(whole: Arrays, limit: int | None, where: str) -> Arrays:
    """`whole`, or a stratified subset of `limit` images."""
    return whole if limit is None else whole.take(subset(whole.labels, limit, where))


def channels_first(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W) or (N, H, W, C) as (N, C, H, W), contiguous."""
    images = images[..., None] if images.ndim == 3 else images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def pixel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images (N, C, H, W), of pixels scaled to [0, 1].

    They come from counts of the 256 values, so that they are the same to the last bit on any machine. A channel
    that is constant has standard deviation 1, so that it can be divided by.
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), CHUNK):
        for channel in range(len(counts)):
            counts[channel] += np.bincount(images[start : start + CHUNK, channel].ravel(), minlength=256)
    mean, std = [], []
    for row in counts.tolist():
        total = sum(row)
        first = sum(count * value for value, count in enumerate(row))
        second = sum(count * value**2 for value, count in enumerate(row))
        mean.append(first / total / 255)
        std.append(((second * total - first**2) ** 0.5) / total / 255 or 1.0)
    return tuple(mean), tuple(std)
