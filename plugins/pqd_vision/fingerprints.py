"""Digests of what settings name, so that other data or other code is another request; imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from pqd_core import DataError, Problem
from pqd_vision.settings import Digits, ImageFolder, NpzFile, Published, PythonNetwork, TorchvisionModel
from pqd_vision.source import find_source

PUBLISHED = {
    "cifar10": ("cifar-10-batches-py", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": ("cifar-100-python", "eb9058c3a382ffc7106e4002c42a8d85"),
    "fashion-mnist": ("FashionMNIST", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
}
"""The folder torchvision keeps a dataset in, and a published md5: the archive's, or the training images' file's."""


def published(name: str, chosen: Published) -> str:
    """The published md5, which torchvision holds the files to when it fetches or reads them."""
    published_folder(name, chosen)
    return PUBLISHED[name][1]


def published_folder(name: str, chosen: Published) -> Path:
    """Where the dataset lies, or will lie once it is fetched.

    Raises:
        DataError: it is not there and is not to be fetched.
    """
    folder = chosen.root / PUBLISHED[name][0]
    if not folder.is_dir() and not chosen.download:
        what = f"there is no folder {folder.absolute()}"
        raise DataError(Problem(f"dataset.{name}.root", what, "set download: true, or root: to where it lies"))
    return folder


def digits(_: Digits) -> str:
    """The test part of Alpaydin and Kaynak's digits (UCI 1998), which every scikit-learn carries."""
    return "uci-optdigits-1797"


def npz(chosen: NpzFile) -> str:
    """sha-256 of the file.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    return _file_digest(chosen.path, "dataset.npz.path")


def image_folder(chosen: ImageFolder) -> str:
    """sha-256 of the relative names and sizes of all files; an image changed to one of the same size is not seen.

    Raises:
        DataError: there is no training or no test folder.
    """
    digest = hashlib.sha256()
    for part, folder in image_folders(chosen.root).items():
        for name, size in sorted(_files(folder)):
            digest.update(f"{part}/{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def image_folders(root: Path) -> dict[str, Path]:
    """The folders of `train`, `test` and, if both val/ and test/ are there, `validation`.

    Raises:
        DataError: there is no training or no test folder.
    """
    there = {part: root / part for part in ("train", "test", "val") if (root / part).is_dir()}
    if "train" not in there or len(there) < 2:
        what = f"{root.absolute()} " + ("holds no train/ with test/ or val/" if root.is_dir() else "is not a folder")
        hint = "lay the images out as train/CLASS/image.jpg and test/CLASS/image.jpg"
        raise DataError(Problem("dataset.image-folder.root", what, hint))
    if "test" not in there:
        return {"train": there["train"], "test": there["val"]}
    return {"validation" if part == "val" else part: folder for part, folder in there.items()}


def torchvision_model(chosen: TorchvisionModel) -> str:
    """torchvision's version where the settings leave it to torchvision which weights are meant, else nothing."""
    return version("torchvision") if (chosen.weights or "").endswith("DEFAULT") else ""


def python_network(chosen: PythonNetwork) -> str:
    """sha-256 of the source file that the target names, found without importing it; not of what that file imports.

    Raises:
        DataError: there is no such file.
    """
    return _file_digest(find_source(chosen.target), "backbone.python.target")


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for path in (Path(parent, name) for name in names):
            yield path.relative_to(folder).as_posix(), path.stat().st_size


def _file_digest(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(Problem(where, f"{path} cannot be read: {error.strerror}", "correct the path")) from error
