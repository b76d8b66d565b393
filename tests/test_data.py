from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from bench import Bench

from pqd_core import Arrays, Classification, Data, DataError, DataInfo, stratified_subset, take
from pqd_core.data import MapDataset, Subset, check_data, hold_out, labels_of
from pqd_core.testing.toys import BlobSettings, ToyBlobs

INFO = DataInfo("d", (1, 8, 8), 3, (0.5,), (0.25,))


def arrays(n: int = 30, classes: int = 3) -> Arrays:
    rng = np.random.default_rng(0)
    return Arrays(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), np.arange(n, dtype=np.int64) % classes)


class Mapped:
    """A map-style dataset that counts how often it is asked for an image."""

    def __init__(self, n: int = 30) -> None:
        self.n, self.asked = n, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int, /) -> tuple[torch.Tensor, int]:
        self.asked += 1
        return torch.full((1, 8, 8), float(index)), index % 3


@pytest.mark.parametrize("size", [1, 2, 10, 99, 299, 300])
def test_a_subset_has_the_asked_size_and_keeps_each_classes_share(size: int) -> None:
    labels = np.repeat([0, 1, 2], [200, 90, 10])
    chosen = stratified_subset(labels, size)
    assert len(np.unique(chosen)) == size
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen], minlength=3)
    assert np.abs(counts - size * np.array([200, 90, 10]) / 300).max() <= 1


def test_a_subset_is_the_same_for_the_same_seed_only() -> None:
    labels = np.arange(1000) % 10
    assert (stratified_subset(labels, 50, 1) == stratified_subset(labels, 50, 1)).all()
    assert (stratified_subset(labels, 50, 1) != stratified_subset(labels, 50, 2)).any()


def test_a_smaller_subset_lies_within_a_larger_one() -> None:
    labels = np.arange(300) % 7
    small, large = (set(stratified_subset(labels, n)) for n in (20, 200))
    assert small < large


@pytest.mark.parametrize("size", [0, -1, 31])
def test_a_subset_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"a subset of {size} was asked for, of 30"):
        stratified_subset(arrays().labels, size)


def test_labels_come_from_targets_where_there_are_some() -> None:
    mapped = Mapped()
    assert labels_of(mapped).tolist() == [i % 3 for i in range(30)]
    assert mapped.asked == 30
    mapped.targets = [2] * 30  # type: ignore[attr-defined]
    assert labels_of(Subset(mapped, np.array([4, 5]))).tolist() == [2, 2]
    assert mapped.asked == 30
    assert labels_of(arrays()).dtype == np.int64


def test_taking_keeps_images_and_labels_together() -> None:
    part = take(arrays(), np.array([5, 0]))
    assert isinstance(part, Arrays)
    assert part.labels.tolist() == [2, 0]
    assert (part.images[0] == arrays().images[5]).all()
    mapped = take(Mapped(), np.array([5, 0]))
    assert isinstance(mapped, MapDataset)
    assert [int(mapped[i][0].max()) for i in range(2)] == [5, 0]


@pytest.mark.parametrize("train", [arrays(100), Mapped(100)])
def test_held_out_images_are_no_longer_trained_on(train: Any) -> None:
    data = hold_out(Data(INFO, train, arrays(9)), 0.2, seed=3)
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (80, 20)
    if isinstance(train, Arrays):
        both = np.concatenate([data.train.images, data.validation.images])  # type: ignore[union-attr]
        assert sorted(map(bytes, both)) == sorted(map(bytes, train.images))
    else:
        assert set(data.train.index).isdisjoint(data.validation.index)  # type: ignore[union-attr]


def test_nothing_is_held_out_where_nothing_is_asked_or_a_split_is_there() -> None:
    data = Data(INFO, arrays(), arrays(9))
    assert hold_out(data, 0.0) is data
    given = evolve(data, validation=arrays(6))
    assert hold_out(given, 0.5) is given


def test_at_least_one_image_is_held_out_and_one_stays() -> None:
    data = hold_out(Data(INFO, arrays(2), arrays(9)), 0.001)
    assert (len(data.train), len(data.validation or [])) == (1, 1)
    data = hold_out(Data(INFO, arrays(), arrays(9)), 0.999)
    assert (len(data.train), len(data.validation or [])) == (1, 29)
    with pytest.raises(DataError, match=r"dataset\.d\.train: holds one image.*write validation: 0"):
        hold_out(Data(INFO, arrays(1), arrays(9)), 0.1)


def with_labels(labels: Any) -> Arrays:
    return Arrays(arrays(len(labels)).images, np.asarray(labels, dtype=np.int64))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (with_labels([0, 1, 3]), "labels run from 0 to 3, expected 0 to 2; number the classes"),
        (with_labels([0, -1, 2]), "labels run from -1 to 2"),
        (with_labels([]), "holds no image"),
        (Arrays(arrays(5).images, arrays(4).labels), "holds 5 images of uint8 and 4 labels"),
        (Arrays(arrays(5).images.astype(np.float32), arrays(5).labels), "holds 5 images of float32"),
        (Arrays(arrays(5).images[:, :, :7], arrays(5).labels), r"images are \(1, 7, 8\), expected \(1, 8, 8\)"),
        (Mapped(0), "holds no image"),
    ],
)
def test_data_that_do_not_fit_what_is_said_of_them_are_refused(train: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"dataset\.d\.train: {message}"):
        check_data(Data(INFO, train, arrays(9)))


def test_all_splits_are_checked_and_told_at_once() -> None:
    with pytest.raises(DataError) as error:
        check_data(Data(INFO, with_labels([7]), with_labels([8]), validation=with_labels([9])))
    assert [problem.where for problem in error.value.problems] == [
        "dataset.d.train",
        "dataset.d.validation",
        "dataset.d.test",
    ]


def test_labels_that_a_task_cannot_take_are_told_what_to_do_about_that_task() -> None:
    class Never(Classification):
        def check(self, targets: np.ndarray, outputs: int) -> list[str]:
            return ["labels of no kind"]

    with pytest.raises(DataError, match="labels of no kind; give the labels that this task asks for, or leave 'task'"):
        check_data(Data(INFO, arrays(9), arrays(9)), Never())


@pytest.mark.parametrize("labels", [[], [0, 1, 9]])
def test_bad_data_of_a_run_are_told_before_anything_is_held_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, labels: list[int]
) -> None:
    good = ToyBlobs.open_data(BlobSettings())
    monkeypatch.setattr(ToyBlobs, "open_data", staticmethod(lambda _: evolve(good, train=with_labels(labels))))
    with pytest.raises(DataError, match=r"dataset\.toy-blobs\.train: (holds no image|labels run)") as error:
        bench.run()
    assert error.value.exit_code == 2
