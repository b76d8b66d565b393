"""Published datasets and scikit-learn's digits: read as they are, and missing with a word on what to do next."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision
from small_data import write_cifar, write_fashion

from pqd_core import DataError
from pqd_vision import fingerprints
from pqd_vision.arrays import pixel_statistics
from pqd_vision.digits import enlarged
from pqd_vision.digits import open_data as open_digits
from pqd_vision.npz import open_data as open_npz
from pqd_vision.published import CIFAR10, CIFAR100, FASHION_MNIST
from pqd_vision.settings import Digits, NpzFile, Published

RNG = np.random.default_rng(0)
DATASETS = {"cifar10": CIFAR10, "cifar100": CIFAR100, "fashion-mnist": FASHION_MNIST}
REAL = os.environ.get("PQD_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="PQD_DATA names no folder with cifar10.npz and cifar-100-python")


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """CIFAR-10's layout with 20 images a file, which torchvision is told to expect."""
    return tmp_path, write_cifar(tmp_path, monkeypatch)


@pytest.fixture
def small_fashion(tmp_path):
    """Fashion-MNIST's files with 30 and 10 images."""
    return tmp_path, write_fashion(tmp_path)


def test_cifar_images_arrive_channels_first(small_cifar):
    root, images = small_cifar
    data = CIFAR10.open_data(Published(root=root))
    assert np.array_equal(data.train.images, np.concatenate([images["data_batch_1"], images["data_batch_2"]]))
    assert np.array_equal(data.test.images, images["test_batch"])
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]
    assert (data.info.shape, data.info.num_classes, data.info.classes[3]) == ((3, 32, 32), 10, "class 3")


def test_fashion_images_have_one_channel(small_fashion):
    root, images = small_fashion
    data = FASHION_MNIST.open_data(Published(root=root))
    assert np.array_equal(data.train.images[:, 0], images["train"])
    assert (data.info.shape, data.info.num_classes, data.train.labels.dtype) == ((1, 28, 28), 10, np.int64)


def test_limits_keep_the_share_of_each_class(small_cifar):
    data = CIFAR10.open_data(Published(root=small_cifar[0], limit=30, limit_test=10))
    assert np.bincount(data.train.labels).tolist() == [3] * 10
    assert np.bincount(data.test.labels).tolist() == [1] * 10
    with pytest.raises(DataError, match=r"dataset\.cifar10\.limit_test: 21 images were asked for, there are 20"):
        CIFAR10.open_data(Published(root=small_cifar[0], limit_test=21))


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_folder_is_told_with_what_to_do(tmp_path, name):
    expected = rf"dataset\.{name}\.root: there is no folder {tmp_path}/.*; set download: true, or root: to"
    for ask in (DATASETS[name].open_data, lambda settings: fingerprints.published(name, settings)):
        with pytest.raises(DataError, match=expected):
            ask(Published(root=tmp_path))


def test_a_damaged_file_is_told_and_not_fetched_unasked(small_cifar, monkeypatch):
    root, _ = small_cifar
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", lambda self: pytest.fail("fetched"))
    (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"missing or damaged, delete that folder and set download: true") as told:
        CIFAR10.open_data(Published(root=root))
    assert told.value.__cause__ is not None


def test_a_file_that_is_a_program_is_not_run(small_cifar, tmp_path):
    class Program:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was-run",))

    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Program()))
    with pytest.raises(DataError):
        CIFAR10.open_data(Published(root=tmp_path))
    assert not (tmp_path / "was-run").exists()


def test_a_truncated_fashion_file_is_told(small_fashion):
    file = small_fashion[0] / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"dataset\.fashion-mnist: cannot be read"):
        FASHION_MNIST.open_data(Published(root=small_fashion[0]))


def test_a_fetch_that_fails_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    with pytest.raises(DataError, match="cannot be fetched: OSError: no network; check the network"):
        CIFAR10.open_data(Published(root=tmp_path / "new", download=True))


def test_what_is_there_is_not_fetched_again_nor_written_to(small_cifar, monkeypatch):
    root, _ = small_cifar
    before = sorted(root.rglob("*"))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", lambda self: pytest.fail("fetched"))
    assert len(CIFAR10.open_data(Published(root=root, download=True)).train) == 40
    assert sorted(root.rglob("*")) == before


def test_what_is_missing_is_fetched_once(small_cifar, monkeypatch):
    root, _ = small_cifar
    (root / "cifar-10-batches-py").rename(root / "published")
    fetches = []

    def fetch(*_, **__):
        fetches.append(1)
        (root / "published").rename(root / "cifar-10-batches-py")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    assert len(CIFAR10.open_data(Published(root=root, download=True)).train) == 40
    assert len(fetches) == 1


def test_a_fingerprint_is_the_published_md5_and_needs_no_files_that_will_be_fetched(tmp_path):
    loaders = torchvision.datasets
    expected = {
        "cifar10": loaders.CIFAR10.tgz_md5,
        "cifar100": loaders.CIFAR100.tgz_md5,
        "fashion-mnist": dict(loaders.FashionMNIST.resources)["train-images-idx3-ubyte.gz"],
    }
    settings = Published(root=tmp_path, download=True)
    assert {name: fingerprints.published(name, settings) for name in DATASETS} == expected


def test_the_folder_asked_for_is_the_one_torchvision_reads():
    loaders = torchvision.datasets
    folders = [loaders.CIFAR10.base_folder, loaders.CIFAR100.base_folder, loaders.FashionMNIST.__name__]
    assert [fingerprints.PUBLISHED[name][0] for name in DATASETS] == folders


def test_digits_are_split_into_fixed_stratified_parts():
    data, again = open_digits(Digits()), open_digits(Digits())
    assert (len(data.train), len(data.test), data.info.shape) == (1438, 359, (1, 16, 16))
    shares = np.bincount(data.train.labels) / np.bincount(np.concatenate([data.train.labels, data.test.labels]))
    assert np.all(abs(shares - 0.8) < 0.02)
    assert np.array_equal(data.train.images, again.train.images)
    together = np.concatenate([data.train.images, data.test.images])
    assert len(np.unique(together.reshape(1797, -1), axis=0)) == 1797


def test_digits_are_cropped_by_a_pixel_and_never_mirrored():
    how = open_digits(Digits()).info.augmentation
    assert (how.padding, how.flip) == (1, False)


@pytest.mark.parametrize("size", [8, 16, 20])
def test_digits_have_the_asked_size_and_the_full_range(size):
    images = open_digits(Digits(size=size)).train.images
    assert (images.shape[1:], images.dtype) == ((1, size, size), np.uint8)
    assert images.min() == 0
    assert images.max() == 255


def test_enlarging_keeps_a_digit_where_it_is():
    ramp = np.tile(np.arange(0, 16, 2.0), (1, 8, 1))
    assert np.array_equal(enlarged(ramp, 8)[0, 0], np.rint(ramp[0] * 255 / 16))
    wide = enlarged(ramp, 16)[0, 0].astype(int)
    assert np.all(np.diff(wide[:, 1:-1], axis=1) > 0)
    assert np.array_equal(wide, wide[:1].repeat(16, axis=0))


def test_digits_take_limits():
    data = open_digits(Digits(limit=50, limit_test=20))
    assert np.bincount(data.train.labels, minlength=10).min() >= 4
    assert len(data.test) == 20


def test_statistics_are_exact_over_many_chunks(monkeypatch):
    images = RNG.integers(0, 256, (50, 2, 3, 3), dtype=np.uint8)
    whole = pixel_statistics(images)
    monkeypatch.setattr("pqd_vision.arrays.CHUNK", 7)
    assert pixel_statistics(images) == whole
    assert whole[0] == pytest.approx((images / 255).mean((0, 2, 3)), rel=1e-12)
    assert whole[1] == pytest.approx((images / 255).std((0, 2, 3)), rel=1e-12)


@needs_real_data
def test_the_real_cifar10_has_the_constants_that_are_used():
    data = open_npz(NpzFile(path=Path(str(REAL)) / "cifar10.npz", limit=5000))
    assert np.bincount(data.train.labels).tolist() == [500] * 10
    assert (len(data.test), data.info.shape) == (10_000, (3, 32, 32))
    assert data.info.mean == pytest.approx(CIFAR10.mean, abs=1e-4)
    assert data.info.std == pytest.approx(CIFAR10.std, abs=1e-4)


@needs_real_data
def test_the_real_cifar100_is_read_and_has_the_constants_that_are_used():
    data = CIFAR100.open_data(Published(root=str(REAL)))
    assert (len(data.train), len(data.test), data.info.classes[0]) == (50_000, 10_000, "apple")
    mean, std = pixel_statistics(data.train.images)
    assert mean == pytest.approx(CIFAR100.mean, abs=1e-4)
    assert std == pytest.approx(CIFAR100.std, abs=1e-4)
