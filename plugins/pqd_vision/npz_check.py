"""What can be wrong with four arrays of images and labels, told all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pqd_core import Problem
from pqd_vision.settings import NpzFile

KEYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3)


def find_problems(arrays: Mapping[str, np.ndarray], settings: NpzFile) -> list[Problem]:
    """Every problem of the arrays that could be read."""
    problems: list[Problem] = []
    for part in ("train", "test"):
        images, labels = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
        if images is not None:
            problems += [Problem(f"dataset.npz.x_{part}", *told) for told in _of_images(images)]
        if labels is not None:
            count = None if images is None else len(images)
            look = _of_labels if settings.targets == "classes" else _of_vectors
            problems += [Problem(f"dataset.npz.y_{part}", *told) for told in look(labels, count)]
    if problems or len(arrays) < len(KEYS):
        return problems
    return [Problem(f"dataset.npz{at}", what, hint) for at, what, hint in _between(arrays, settings)]


def is_channels_first(images: np.ndarray) -> bool:
    """Whether images are (N, C, H, W)."""
    return images.ndim == 4 and images.shape[1] in CHANNELS


def image_shape(images: np.ndarray) -> tuple[int, ...]:
    """(C, H, W) of one image, whatever the layout."""
    if is_channels_first(images):
        return images.shape[1:]
    height, width, channels = (*images.shape[1:], 1)[:3]
    return channels, height, width


def _of_images(images: np.ndarray) -> Iterator[tuple[str, str]]:
    layouts = "use (N, H, W, C), (N, C, H, W) or (N, H, W) with 1 or 3 channels"
    if images.ndim not in (3, 4):
        yield f"has shape {images.shape}", layouts
    elif images.size == 0:
        yield f"has shape {images.shape}, so it holds no image", "save at least one image"
    elif images.ndim == 4 and not {images.shape[1], images.shape[3]} & set(CHANNELS):
        yield f"has shape {images.shape}: neither the second nor the last axis has 1 or 3 channels", layouts
    elif images.ndim == 4 and {images.shape[1], images.shape[3]} <= set(CHANNELS):
        yield f"has shape {images.shape}: either axis could be the channels", layouts
    if images.dtype == np.uint8 or not images.size:
        return
    if not np.issubdtype(images.dtype, np.floating):
        yield f"has type {images.dtype}", "save uint8 pixels of 0 to 255: images.astype(numpy.uint8)"
    elif not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 255):
        what = f"has values from {images.min():g} to {images.max():g}"
        yield what, "save uint8 pixels of 0 to 255, or floats of [0, 1] or [0, 255], not normalized ones"


def _of_labels(labels: np.ndarray, images: int | None) -> Iterator[tuple[str, str]]:
    count = len(labels) if labels.ndim else 0
    if labels.ndim != 1 and labels.shape != (count, 1):
        yield f"has shape {labels.shape}", "save one class number for each image, shape (N,)"
    elif images is not None and count != images:
        yield f"has {count} labels for {images} images", "save one label for each image"
    if not np.issubdtype(labels.dtype, np.integer):
        yield f"has type {labels.dtype}", "save class numbers as integers: labels.astype(numpy.int64)"
    elif labels.size and labels.min() < 0:
        yield f"has the label {labels.min()}", "number the classes from 0"


def _of_vectors(labels: np.ndarray, images: int | None) -> Iterator[tuple[str, str]]:
    if labels.ndim != 2 or not labels.shape[1]:
        yield f"has shape {labels.shape}", "save a row of numbers for each image, shape (N, outputs)"
    elif images is not None and len(labels) != images:
        yield f"has {len(labels)} rows for {images} images", "save one row for each image"
    if labels.dtype.kind not in "fiub":
        yield f"has type {labels.dtype}", "save numbers: labels.astype(numpy.float32)"


def _between(arrays: Mapping[str, np.ndarray], settings: NpzFile) -> Iterator[tuple[str, str, str]]:
    train, test = arrays["x_train"], arrays["x_test"]
    shape = image_shape(train)
    if image_shape(test) != shape:
        yield ".x_test", f"has images of {image_shape(test)}, x_train of {shape}", "save both alike"
    if train.dtype != test.dtype:
        yield ".x_test", f"has type {test.dtype}, x_train has {train.dtype}", "save both alike"
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if values is not None and len(values) != shape[0]:
            yield f".{name}", f"has {len(values)} values for {shape[0]} channels", "give one for each channel"
    if settings.targets == "classes":
        yield from _of_classes(arrays["y_train"], arrays["y_test"], settings.num_classes)
    elif arrays["y_train"].shape[1] != arrays["y_test"].shape[1]:
        what = f"has {arrays['y_test'].shape[1]} numbers for each image, y_train has {arrays['y_train'].shape[1]}"
        yield ".y_test", what, "save both alike"


def _of_classes(train: np.ndarray, test: np.ndarray, given: int | None) -> Iterator[tuple[str, str, str]]:
    classes = given or int(train.max()) + 1
    for key, labels in (("y_train", train), ("y_test", test)):
        if labels.max() >= classes:
            what = f"has the label {labels.max()}, expected 0 to {classes - 1}"
            yield f".{key}", what, "number the classes from 0, or set num_classes"
    seen = len(np.unique(train))
    if given is None and seen < classes:
        yield ".y_train", f"names {seen} classes by numbers up to {classes - 1}", "leave no gap, or set num_classes"
    elif classes < 2:
        yield ".y_train", "names one class only", "at least two classes are needed"
