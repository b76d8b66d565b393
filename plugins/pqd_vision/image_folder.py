"""The user's own images in folders, one folder for each class, read from disk as they are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from attrs import evolve
from torchvision import datasets

from pqd_core import Augmentation, Data, DataError, DataInfo, Problem
from pqd_vision.arrays import subset
from pqd_vision.fingerprints import image_folders
from pqd_vision.images import Images, size_on_disk
from pqd_vision.settings import ImageFolder

WHERE = "dataset.image-folder"


def open_data(settings: ImageFolder) -> Data:
    """The images by name; val/ is for validation where there is a test/ too, else it is the test.

    Raises:
        DataError: a folder or a class is missing, or the images have several sizes and `size` is not set.
    """
    listings = {part: _listing(folder) for part, folder in image_folders(settings.root).items()}
    classes = listings["train"].classes
    samples = {part: _samples(listing, classes) for part, listing in listings.items()}
    size = (settings.size, settings.size) if settings.size else common_size(list(samples.values()))
    splits = {part: Images(tuple(found), size, settings.mean, settings.std) for part, found in samples.items()}
    splits["train"] = _limited(evolve(splits["train"], augmented=True), settings.limit, "limit")
    splits["test"] = _limited(splits["test"], settings.limit_test, "limit_test")
    no_more = Augmentation(padding=0, flip=False)
    info = DataInfo(
        settings.root.absolute().name, (3, *size), len(classes), settings.mean, settings.std, no_more, tuple(classes)
    )
    return Data(info, splits["train"], splits["test"], splits.get("validation"))


def common_size(parts: list[list[tuple[str, int]]]) -> tuple[int, int]:
    """Height and width of all images.

    Raises:
        DataError: two images differ, or one cannot be read.
    """
    paths = [path for part in parts for path, _ in part]
    size = size_on_disk(paths[0])
    for path in paths[1:]:
        if (other := size_on_disk(path)) != size:
            what = f"{paths[0]} is {size[1]}x{size[0]} pixels, {path} is {other[1]}x{other[0]}"
            raise DataError(Problem(f"{WHERE}.size", what, "set size: 224, say, to resize all images to 224x224"))
    return size


def _samples(listing: datasets.ImageFolder, classes: list[str]) -> list[tuple[str, int]]:
    """(file, class) of each image, by the training folder's numbers of the classes."""
    if strange := sorted(set(listing.classes) - set(classes)):
        what = f"{listing.root} has classes that train/ has not: {', '.join(strange)}"
        raise DataError(Problem(WHERE, what, "name the folders as in train/, or delete them"))
    return [(path, classes.index(listing.classes[number])) for path, number in listing.samples]


def _listing(folder: Path) -> datasets.ImageFolder:
    try:
        return datasets.ImageFolder(str(folder))
    except OSError as error:
        what = f"{folder}: {error}"
        raise DataError(Problem(WHERE, what, "put each class's images into a folder of its own")) from error


def _limited(images: Images, limit: int | None, setting: str) -> Images:
    chosen = subset(np.asarray(images.targets), limit, f"{WHERE}.{setting}")
    return evolve(images, samples=tuple(images.samples[i] for i in chosen))
