"""A person's own data, at hand in this process, as a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pqd_core.batches import eval_batches
from pqd_core.data import Arrays, Augmentation, Data, DataInfo, Split, labels_of
from pqd_core.host.entries import Entry
from pqd_core.host.errors import DataError, Problem
from pqd_core.host.local import LOCAL
from pqd_core.records import DatasetDef, Settings

PROBED = 32
"""Items of a dataset whose content is part of its fingerprint, spread over it; all of a tensor's content is."""
AS_IT_IS = Augmentation(padding=0, flip=False)


@frozen(eq=False)
class TensorSplit:
    """Images that are ready for the network, float32 (N, C, H, W), and their labels, (N,) or (N, outputs)."""

    images: Tensor
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int | Tensor]:
        label = self.targets[index]
        return self.images[index], int(label) if self.targets.ndim == 1 else torch.from_numpy(label)


@frozen(eq=False)
class _OwnData:
    data: Data

    def open_data(self, settings: Settings) -> Data:
        """The data as it was given."""
        return self.data


def own_dataset(train: Any, test: Any, name: str) -> Callable[[int], Entry]:
    """A function of the network's number of outputs that gives the data as a dataset.

    Either part is a pair of tensors or arrays, a map-style dataset, or a loader of one.

    Raises:
        DataError: with all that is wrong of either.
    """
    splits = [_split(part, where) for part, where in ((train, "train_data"), (test, "test_data"))]
    if problems := [split for split in splits if isinstance(split, Problem)]:
        raise DataError(*problems)
    ready, tested = (split for split in splits if not isinstance(split, Problem))
    digest = digest_of(part for split in (ready, tested) for part in _content(split))

    def entry(outputs: int) -> Entry:
        opened = _OwnData(Data(_info(ready, name, outputs), ready, tested))
        record = DatasetDef(name=name, summary="Data of this process.", load=opened, fingerprint=lambda _: digest)
        return Entry(LOCAL, record, Settings())

    return entry


def first_images(train: Any) -> Tensor:
    """Two images as the network sees them, float32 (2, C, H, W)."""
    split = _split(train, "train_data")
    if isinstance(split, Problem):
        raise DataError(split)
    return next(iter(eval_batches(split, _info(split, "", 0), 2, 2))).inputs


def _split(data: Any, where: str) -> Split | Problem:
    """`data` as the core walks it, or what is wrong with it."""
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, tuple | list) and len(data) == 2:
        return _pair(data[0], data[1], where)
    if isinstance(data, IterableDataset) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        hint = "give (images, labels), a map-style dataset, or a loader of one"
        return Problem(where, f"is a {type(data).__name__}, which cannot be shuffled and counted", hint)
    if not len(data):
        return Problem(where, "holds no image")
    if what := _item_problem(data[0]):
        hint = "let its transform end in a float32 tensor (C, H, W), normalized"
        return Problem(where, f"the first item is {what}, expected (image, label)", hint)
    return data  # type: ignore[no-any-return]


def _pair(images: Any, labels: Any, where: str) -> Split | Problem:
    pixels, targets = np.asarray(images), np.asarray(labels)
    if pixels.ndim != 4 or not len(pixels) or len(targets) != len(pixels) or targets.dtype.kind not in "iufb":
        what = f"holds images {pixels.shape} and labels {targets.shape} of {targets.dtype}"
        return Problem(where, what, "give images (N, C, H, W) and labels (N,), or (N, outputs) for a task of one's own")
    known = targets.astype(np.int64 if targets.dtype.kind in "iu" and targets.ndim == 1 else np.float32)
    if pixels.dtype == np.uint8:
        return Arrays(np.ascontiguousarray(pixels), known)
    return TensorSplit(torch.tensor(pixels, dtype=torch.float32), known)


def _item_problem(item: Any) -> str | None:
    if not isinstance(item, tuple | list) or len(item) != 2:
        return f"a {type(item).__name__}"
    image = item[0]
    if not isinstance(image, Tensor):
        return f"an image of type {type(image).__name__}"
    return None if image.dim() == 3 and image.is_floating_point() else f"an image {tuple(image.shape)} of {image.dtype}"


def _info(train: Split, name: str, outputs: int) -> DataInfo:
    """Pixels of uint8 are normalized by their own statistics; floats come normalized and stay as they are."""
    if not isinstance(train, Arrays):
        channels, height, width = train[0][0].shape
        return DataInfo(name, (channels, height, width), outputs, (0.0,) * channels, (1.0,) * channels, AS_IT_IS)
    channels, height, width = train.images.shape[1:]
    by_channel = train.images.swapaxes(0, 1).reshape(channels, -1)
    mean = tuple(float(pixels.mean(dtype=np.float64)) / 255 for pixels in by_channel)
    std = tuple(float(pixels.std(dtype=np.float64)) / 255 or 1.0 for pixels in by_channel)
    return DataInfo(name, (channels, height, width), outputs, mean, std, AS_IT_IS)


def _content(split: Split) -> list[np.ndarray]:
    """What a fingerprint is made of: all of what lies in memory, of a dataset the labels and some images."""
    if isinstance(split, Arrays):
        return [split.images, split.labels]
    if isinstance(split, TensorSplit):
        return [split.images.numpy(), split.targets]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # transforms that are random are so in the same way each time
        probed = np.linspace(0, len(split) - 1, min(PROBED, len(split))).astype(int)
        return [labels_of(split), *(np.asarray(split[int(i)][0]) for i in probed)]


def digest_of(arrays: Iterable[np.ndarray]) -> str:
    """sha-256 of shapes, types and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
