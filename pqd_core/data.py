"""Images and their targets on their way into training and measuring."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from attrs import evolve, field, frozen

from pqd_core.host.errors import DataError, Problem
from pqd_core.task import CLASSIFICATION, Task

if TYPE_CHECKING:
    from torch import Tensor


@frozen
class Augmentation:
    """What may be done to a training image without changing its label."""

    padding: int = 4
    """Pixels of zero padding for a random crop back to the original size; 0 for no crop."""
    flip: bool = True
    """Mirror every second image, left to right."""


@frozen
class DataInfo:
    """What a network has to know of its data."""

    name: str
    shape: tuple[int, int, int]
    """(channels, height, width) of one image."""
    num_classes: int
    """How many outputs the network has: classes, or whatever the task counts."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to [0, 1]; subtracted before the network."""
    std: tuple[float, ...]
    augmentation: Augmentation = field(factory=Augmentation)
    classes: tuple[str, ...] = ()


@runtime_checkable
class MapDataset(Protocol, Sized):
    """A map-style dataset: `(image, label)` by index, the image float32 (C, H, W), already normalized.

    The label is a class number, or a float32 vector (outputs,) where the task wants one.
    One that augments has a property `unaugmented`, the same images without it.
    """

    def __getitem__(self, index: int, /) -> tuple[Tensor, int | Tensor]: ...


@frozen(eq=False)
class Arrays:
    """Images that fit in memory: uint8 (N, C, H, W), and int64 labels (N,) or float32 ones (N, outputs)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> Arrays:
        """The images at `index`, in that order."""
        return Arrays(self.images[index], self.labels[index])


Split = Arrays | MapDataset


@frozen(eq=False)
class Data:
    """A dataset, opened: what it is and its parts. `validation` is split off `train` by the core."""

    info: DataInfo
    train: Split
    test: Split
    validation: Split | None = None


def labels_of(split: Split) -> np.ndarray:
    """All labels of a split, int64 (N,) or float32 (N, outputs).

    A map-style dataset is asked for its `targets` before it is walked.
    """
    if isinstance(split, Arrays):
        return split.labels
    targets = getattr(split, "targets", None)
    found = np.asarray(targets if targets is not None else [np.asarray(split[i][1]) for i in range(len(split))])
    return found.astype(np.int64 if found.dtype.kind in "iub" and found.ndim == 1 else np.float32)


def stratified_subset(labels: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Sorted indices of `size` labels in which each class keeps its share (within one); the same for the same seed.

    Labels that are no classes are drawn at random.

    Raises:
        DataError: `size` is not between 1 and the number of labels.
    """
    if not 1 <= size <= len(labels):
        raise DataError(Problem("", f"a subset of {size} was asked for, of {len(labels)}", "choose another limit"))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        labels = np.zeros(len(labels), np.int64)
    rng = np.random.default_rng(seed)
    # The k-th image of a class of n gets rank (k + u) / n: any number of lowest ranks is stratified.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        rank[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.sort(np.argsort(rank, kind="stable")[:size])


@frozen(eq=False)
class Subset:
    """Some images of a map-style dataset."""

    whole: MapDataset
    index: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """Labels of these images."""
        targets: np.ndarray = labels_of(self.whole)[self.index]
        return targets

    @property
    def unaugmented(self) -> Split:
        """The same images as they are."""
        return take(unaugmented(self.whole), self.index)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int | Tensor]:
        return self.whole[int(self.index[index])]


def unaugmented(split: Split) -> Split:
    """`split` without the random changes that it makes to its own images, if it makes any."""
    plain: Split = getattr(split, "unaugmented", split)
    return plain


def take(split: Split, index: np.ndarray) -> Split:
    """The images of `split` at `index`."""
    return split.take(index) if isinstance(split, Arrays) else Subset(split, index)


def hold_out(data: Data, share: float, seed: int = 0) -> Data:
    """`data` with a `share` of its training images set apart for validation: at least one, never all.

    Each class keeps its share where labels are classes.

    Raises:
        DataError: there is nothing to set apart.
    """
    if not share or data.validation is not None:
        return data
    labels = labels_of(data.train)
    if len(labels) < 2:
        where = f"dataset.{data.info.name}.train"
        raise DataError(Problem(where, "holds one image, of which none can be held out", "write validation: 0"))
    size = min(max(1, round(share * len(labels))), len(labels) - 1)
    chosen = stratified_subset(labels, size, seed)
    rest = np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True)
    return evolve(data, train=take(data.train, rest), validation=take(unaugmented(data.train), chosen))


def check_data(data: Data, task: Task = CLASSIFICATION) -> None:
    """Every split holds images that fit `data.info` and labels that fit `task`.

    Raises:
        DataError: with all problems at once.
    """
    parts = ("train", "validation", "test")
    problems = [p for part in parts for p in _problems(getattr(data, part), part, data.info, task)]
    if problems:
        raise DataError(*problems)


def _problems(split: Split | None, part: str, info: DataInfo, task: Task) -> list[Problem]:
    if split is None:
        return []
    where = f"dataset.{info.name}.{part}"
    if not len(split):
        return [Problem(where, "holds no image")]
    if isinstance(split, Arrays) and (split.images.dtype != np.uint8 or len(split.images) != len(split.labels)):
        found = f"{len(split.images)} images of {split.images.dtype} and {len(split.labels)} labels"
        return [Problem(where, f"holds {found}", "give one label for each image of uint8")]
    problems = []
    shape = split.images.shape[1:] if isinstance(split, Arrays) else tuple(split[0][0].shape)
    if tuple(shape) != info.shape:
        problems.append(Problem(where, f"images are {tuple(shape)}, expected {info.shape}"))
    hint = "number the classes from 0 without gaps, or name the task that the labels are for"
    if task is not CLASSIFICATION:
        hint = "give the labels that this task asks for, or leave 'task' out where each image has one class"
    return problems + [Problem(where, what, hint) for what in task.check(labels_of(split), info.num_classes)]
