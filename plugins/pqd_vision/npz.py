"""The user's own arrays: one .npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from pqd_core import Arrays, Augmentation, Data, DataError, DataInfo, Problem
from pqd_vision.arrays import channels_first, limited, pixel_statistics
from pqd_vision.npz_check import KEYS, find_problems, is_channels_first
from pqd_vision.settings import NpzFile as Settings

SAVE_HINT = "write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)"
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError)


def open_data(settings: Settings) -> Data:
    """The images in memory as uint8; float images of [0, 1] or [0, 255] are rounded to it.

    Raises:
        DataError: with all problems of the file at once.
    """
    found, problems = read_arrays(settings.path)
    problems += find_problems(found, settings)
    if problems:
        raise DataError(*problems)
    pixels = to_uint8(found["x_train"], found["x_test"])
    labels = (found[key] for key in ("y_train", "y_test"))
    if settings.targets == "classes":
        labels = (y.reshape(-1).astype(np.int64) for y in labels)
    else:
        labels = (y.astype(np.float32) for y in labels)
    train, test = (Arrays(x, y) for x, y in zip(pixels, labels, strict=True))
    return Data(
        describe(train, settings),
        limited(train, settings.limit, "dataset.npz.limit"),
        limited(test, settings.limit_test, "dataset.npz.limit_test"),
    )


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[Problem]]:
    """The four arrays as far as they can be read, and what kept the others from it; nothing is unpickled.

    Raises:
        DataError: the file is no .npz file at all.
    """
    found, problems = {}, []
    with _opened(path) as archive:
        for key in KEYS:
            try:
                found[key] = archive[key]
            except KeyError:
                what = f"{path} holds no array of that name, but {', '.join(archive.files) or 'none'}"
                problems.append(Problem(f"dataset.npz.{key}", what, SAVE_HINT))
            except UNREADABLE as error:
                problems.append(Problem(f"dataset.npz.{key}", f"cannot be read: {error}", SAVE_HINT))
    return found, problems


def _opened(path: Path) -> NpzFile:
    try:
        archive = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise DataError(Problem("dataset.npz.path", f"{path} is no .npz file: {error}", SAVE_HINT)) from error
    if not isinstance(archive, NpzFile):
        raise DataError(Problem("dataset.npz.path", f"{path} holds a single array", SAVE_HINT))
    return archive


def to_uint8(*arrays: np.ndarray) -> list[np.ndarray]:
    """Images of any accepted layout and type as uint8 (N, C, H, W), all scaled alike."""
    if arrays[0].dtype != np.uint8:
        scale = 255 if max(images.max() for images in arrays) <= 1 else 1
        arrays = tuple(np.rint(images * scale).astype(np.uint8) for images in arrays)
    return [np.ascontiguousarray(x) if is_channels_first(x) else channels_first(x) for x in arrays]


def describe(train: Arrays, settings: Settings) -> DataInfo:
    """What a network has to know; mean and standard deviation are those of all training images, limit or not."""
    mean, std = settings.mean, settings.std
    if mean is None or std is None:
        own_mean, own_std = pixel_statistics(train.images)
        mean, std = mean or own_mean, std or own_std
    return DataInfo(
        settings.path.stem,
        train.images.shape[1:],
        train.labels.shape[1] if train.labels.ndim == 2 else settings.num_classes or int(train.labels.max()) + 1,
        mean,
        std,
        Augmentation(settings.padding, settings.flip),
    )
