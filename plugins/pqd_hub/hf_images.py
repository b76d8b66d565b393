"""Images saved by Hugging Face's `datasets`, or in parquet files: read from disk, kept in memory as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pqd_core import Arrays, Augmentation, Data, DataError, DataInfo, Problem, stratified_subset
from pqd_hub import HfImagesSettings

WHERE = "dataset.hf-images"
LARGEST_BYTES = 8 * 2**30
"""More pixels than this do not belong into memory."""


def open_data(settings: HfImagesSettings) -> Data:
    """Both splits as arrays; class names are those that the dataset knows.

    Raises:
        DataError: the package is missing, or what lies there is not as the settings say.
    """
    parts = _parts(settings)
    train, test = (
        _arrays(parts[name], settings, limit, f"{WHERE}.{setting}")
        for name, limit, setting in (
            (settings.train, settings.limit, "limit"),
            (settings.test, settings.limit_test, "limit_test"),
        )
    )
    names = tuple(getattr(parts[settings.train].features[settings.label], "names", ()))
    classes = len(names) or int(train.labels.max()) + 1
    scaled = train.images.swapaxes(0, 1).reshape(train.images.shape[1], -1)
    mean = tuple(float(channel.mean(dtype=np.float64)) / 255 for channel in scaled)
    std = tuple(float(channel.std(dtype=np.float64)) / 255 or 1.0 for channel in scaled)
    how = Augmentation(settings.padding, settings.flip)
    shape: tuple[int, int, int] = train.images.shape[1:]
    return Data(DataInfo(settings.path.stem, shape, classes, mean, std, how, names), train, test)


def _parts(settings: HfImagesSettings) -> Any:
    """The splits by name, with the columns that are asked for."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(Problem(WHERE, "datasets is not installed", "python3 -m pip install 'pqd[hf]'")) from error
    try:
        parts = _read(settings.path, (settings.train, settings.test), datasets)
    except DataError:
        raise
    except Exception as error:  # the library raises whatever its file formats raise
        what = f"{settings.path} cannot be read ({type(error).__name__}: {error})"
        raise DataError(
            Problem(f"{WHERE}.path", what, "write it with datasets' save_to_disk, or as parquet")
        ) from error
    if problems := list(_missing(parts, settings)):
        raise DataError(*problems)
    return parts


def _missing(parts: Any, settings: HfImagesSettings) -> Iterator[Problem]:
    """Splits and columns that are asked for and not there."""
    for name in (settings.train, settings.test):
        if name not in parts:
            yield Problem(f"{WHERE}.{name}", f"no such split; there are {', '.join(parts)}")
            continue
        known = parts[name].column_names
        for column in {settings.image, settings.label} - set(known):
            yield Problem(f"{WHERE}.{name}", f"has no column '{column}'; there are {', '.join(known)}")


def _read(path: Path, splits: tuple[str, ...], datasets: Any) -> Any:
    if path.is_dir() and not list(path.glob("*.parquet")):
        found = datasets.load_from_disk(str(path))
        return found if isinstance(found, dict) else {splits[0]: found}
    files = {
        name: sorted(map(str, (path if path.is_dir() else path.parent).glob(f"{name}*.parquet"))) for name in splits
    }
    if missing := [name for name, found in files.items() if not found]:
        what = f"there is no file {missing[0]}*.parquet"
        raise DataError(Problem(f"{WHERE}.path", what, "name the files after their splits"))
    return {name: datasets.Dataset.from_parquet(found) for name, found in files.items()}


def _arrays(part: Any, settings: HfImagesSettings, limit: int | None, where: str) -> Arrays:
    labels = np.asarray(part[settings.label], dtype=np.int64)
    if limit is not None:
        if limit > len(labels):
            what = f"{limit} images were asked for, there are {len(labels)}"
            raise DataError(Problem(where, what, "choose a smaller limit, or none"))
        chosen = stratified_subset(labels, limit)
        part, labels = part.select(chosen), labels[chosen]
    pixels = [_pixels(row, settings) for row in part[settings.image]]
    if len({image.shape for image in pixels}) > 1:
        raise DataError(Problem(f"{WHERE}.size", "the images have several sizes", "set size: 224, say, to resize all"))
    if pixels and len(pixels) * pixels[0].nbytes > LARGEST_BYTES:
        raise DataError(Problem(f"{WHERE}.size", "the images do not fit into memory", "set a size, or a limit"))
    return Arrays(np.stack(pixels), labels)


def _pixels(image: Any, settings: HfImagesSettings) -> np.ndarray:
    """One image, uint8 (C, H, W): grey ones have one channel, all others are read as RGB."""
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if settings.size:
        image = image.resize((settings.size, settings.size))
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
