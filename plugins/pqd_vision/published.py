"""CIFAR-10, CIFAR-100 and Fashion-MNIST, read by torchvision's loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from filelock import FileLock
from torchvision import datasets

from pqd_core import Arrays, Data, DataError, DataInfo, Problem
from pqd_vision.arrays import channels_first, limited
from pqd_vision.fingerprints import published_folder
from pqd_vision.settings import Published


@frozen
class PublishedDataset:
    """A dataset of torchvision's: its class there, and mean and standard deviation of its training pixels."""

    name: str
    loader: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def open_data(self, settings: Published) -> Data:
        """The images in memory.

        Raises:
            DataError: the dataset is not there, damaged, or cannot be fetched.
        """
        folder = published_folder(self.name, settings)
        try:
            loaded = self._loaded(settings)
        except Exception as error:
            raise self._unreadable(settings, str(folder.absolute()), error) from error
        train, test = (Arrays(channels_first(x), y) for x, y in ((_pixels(part), _labels(part)) for part in loaded))
        classes = tuple(loaded[0].classes)
        info = DataInfo(self.name, train.images.shape[1:], len(classes), self.mean, self.std, classes=classes)
        return Data(
            info,
            limited(train, settings.limit, f"dataset.{self.name}.limit"),
            limited(test, settings.limit_test, f"dataset.{self.name}.limit_test"),
        )

    def _loaded(self, settings: Published) -> list[Any]:
        """The training and the test part as torchvision gives them, fetched only if they cannot be read as they are."""
        try:
            return self._load(settings.root, download=False)
        except Exception:
            if not settings.download:
                raise
        settings.root.mkdir(parents=True, exist_ok=True)
        # Of several processes that would fetch into one folder, one does and the others wait for it.
        with FileLock(settings.root / ".pqd-download.lock"):
            return self._load(settings.root, download=True)

    def _load(self, root: Path, download: bool) -> list[Any]:
        return [getattr(datasets, self.loader)(root, train=train, download=download) for train in (True, False)]

    def _unreadable(self, settings: Published, folder: str, error: Exception) -> DataError:
        damaged = f"if files of {folder} are missing or damaged, delete that folder"
        if settings.download:
            what, hint = "fetched", f"check the network; {damaged}"
        else:
            what, hint = "read", f"{damaged} and set download: true"
        return DataError(Problem(f"dataset.{self.name}", f"cannot be {what}: {type(error).__name__}: {error}", hint))


def _pixels(part: Any) -> np.ndarray:
    return np.asarray(part.data, dtype=np.uint8)


def _labels(part: Any) -> np.ndarray:
    return np.asarray(part.targets, dtype=np.int64)


CIFAR10 = PublishedDataset("cifar10", "CIFAR10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = PublishedDataset("cifar100", "CIFAR100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
FASHION_MNIST = PublishedDataset("fashion-mnist", "FashionMNIST", (0.2860,), (0.3530,))
