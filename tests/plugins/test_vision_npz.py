"""The user's own arrays: every layout means the same images, and every problem is told at once."""

import numpy as np
import pytest
from pydantic import ValidationError

from pqd_core import DataError
from pqd_vision import fingerprints
from pqd_vision.npz import open_data
from pqd_vision.settings import NpzFile

RNG = np.random.default_rng(0)
NHWC = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def save(path, **changes):
    arrays = {"x_train": NHWC, "y_train": LABELS, "x_test": NHWC[:8], "y_test": LABELS[:8]} | changes
    np.savez(path / "made.npz", **{key: value for key, value in arrays.items() if value is not None})
    return path / "made.npz"


def problems_of(file, **settings) -> dict[str, str]:
    with pytest.raises(DataError) as told:
        open_data(NpzFile(path=file, **settings))
    assert all(problem.hint for problem in told.value.problems)
    return {problem.where.removeprefix("dataset.npz."): problem.what for problem in told.value.problems}


def test_images_and_labels_arrive_as_they_were_saved(tmp_path):
    data = open_data(NpzFile(path=save(tmp_path)))
    assert np.array_equal(data.train.images, NHWC.transpose(0, 3, 1, 2))
    assert np.array_equal(data.test.labels, LABELS[:8])
    assert data.train.labels.dtype == np.int64
    assert (data.info.name, data.info.shape, data.info.num_classes) == ("made", (3, 6, 5), 4)


@pytest.mark.parametrize(
    "layout", [lambda x: x, lambda x: x.transpose(0, 3, 1, 2), lambda x: x / 255, lambda x: x.astype(np.float32)]
)
def test_every_layout_and_type_means_the_same_images(tmp_path, layout):
    data = open_data(NpzFile(path=save(tmp_path, x_train=layout(NHWC), x_test=layout(NHWC[:8]))))
    assert data.train.images.dtype == np.uint8
    assert data.train.images.flags.c_contiguous
    assert np.array_equal(data.train.images, NHWC.transpose(0, 3, 1, 2))


def test_grey_images_need_no_channel_axis(tmp_path):
    data = open_data(NpzFile(path=save(tmp_path, x_train=NHWC[..., 0], x_test=NHWC[:8, ..., 0])))
    assert data.info.shape == (1, 6, 5)
    assert np.array_equal(data.train.images[:, 0], NHWC[..., 0])


def test_labels_may_be_a_column(tmp_path):
    data = open_data(NpzFile(path=save(tmp_path, y_train=LABELS[:, None].astype(np.uint8))))
    assert np.array_equal(data.train.labels, LABELS)


def test_mean_and_std_are_those_of_the_training_images(tmp_path):
    info = open_data(NpzFile(path=save(tmp_path), limit=8)).info
    pixels = NHWC.astype(np.float64) / 255
    assert info.mean == pytest.approx(pixels.mean((0, 1, 2)))
    assert info.std == pytest.approx(pixels.std((0, 1, 2)))


def test_mean_and_std_may_be_given(tmp_path):
    info = open_data(NpzFile(path=save(tmp_path), mean=(0, 0, 0.5), std=(1, 1, 2))).info
    assert (info.mean, info.std) == ((0, 0, 0.5), (1, 1, 2))


def test_a_constant_channel_can_be_normalized(tmp_path):
    info = open_data(NpzFile(path=save(tmp_path, x_train=NHWC * np.uint8([1, 1, 0])))).info
    assert info.mean[2] == 0
    assert info.std[2] == 1


def test_a_limit_keeps_the_share_of_each_class(tmp_path):
    data = open_data(NpzFile(path=save(tmp_path), limit=12, limit_test=4))
    assert np.bincount(data.train.labels).tolist() == [3, 3, 3, 3]
    assert len(data.test) == 4
    again = open_data(NpzFile(path=save(tmp_path), limit=12, limit_test=4))
    assert np.array_equal(data.train.images, again.train.images)


def test_a_limit_beyond_the_images_is_told(tmp_path):
    assert problems_of(save(tmp_path), limit=41) == {"limit": "41 images were asked for, there are 40"}
    assert problems_of(save(tmp_path), limit_test=9) == {"limit_test": "9 images were asked for, there are 8"}


def test_augmentation_is_as_it_is_set(tmp_path):
    how = open_data(NpzFile(path=save(tmp_path), padding=2, flip=False)).info.augmentation
    assert (how.padding, how.flip) == (2, False)


def test_classes_may_be_more_than_the_labels_name(tmp_path):
    assert open_data(NpzFile(path=save(tmp_path), num_classes=9)).info.num_classes == 9


def test_all_problems_are_told_at_once(tmp_path):
    file = save(tmp_path, x_train=NHWC[:39], y_train=LABELS - 1, x_test=NHWC.astype(np.int32), y_test=None)
    with pytest.raises(DataError) as told:
        open_data(NpzFile(path=file))
    assert [problem.where.rpartition(".")[2] for problem in told.value.problems] == [
        "y_test",
        "y_train",
        "y_train",
        "x_test",
    ]


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"x_train": NHWC[0]}, "y_train", "has 40 labels for 6 images"),
        ({"x_train": NHWC.reshape(40, -1)}, "x_train", "has shape (40, 90)"),
        ({"x_train": np.zeros((40, 6, 5, 4), np.uint8)}, "x_train", "neither the second nor the last axis"),
        ({"x_train": np.zeros((40, 3, 5, 3), np.uint8)}, "x_train", "either axis could be the channels"),
        ({"x_train": NHWC[:0], "y_train": LABELS[:0]}, "x_train", "so it holds no image"),
        ({"x_train": NHWC.astype(np.int64)}, "x_train", "has type int64"),
        ({"x_train": NHWC / 255 - 0.5}, "x_train", "has values from -0.5 to 0.5"),
        ({"x_train": NHWC * np.float32("nan")}, "x_train", "has values from nan to nan"),
        ({"x_test": NHWC[:8, :4]}, "x_test", "has images of (3, 4, 5), x_train of (3, 6, 5)"),
        ({"x_test": NHWC[:8] / 255}, "x_test", "has type float64, x_train has uint8"),
        ({"y_train": LABELS[:39]}, "y_train", "has 39 labels for 40 images"),
        ({"y_train": np.eye(4)[LABELS].astype(int)}, "y_train", "has shape (40, 4)"),
        ({"y_train": LABELS.astype(float)}, "y_train", "has type float64"),
        ({"y_train": LABELS - 1}, "y_train", "has the label -1"),
        ({"y_train": LABELS + 1}, "y_train", "names 4 classes by numbers up to 4"),
        ({"y_train": LABELS * 0, "y_test": LABELS[:8] * 0}, "y_train", "names one class only"),
        ({"y_test": LABELS[:8] + 1}, "y_test", "has the label 4, expected 0 to 3"),
        ({"y_test": None}, "y_test", "holds no array of that name, but x_train, y_train, x_test"),
        ({"y_test": np.array([{}] * 8, dtype=object)}, "y_test", "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_a_problem_is_told_at_its_array(tmp_path, changes, where, what):
    told = problems_of(save(tmp_path, **changes))
    assert what in told[where]


@pytest.mark.parametrize(
    ("settings", "where"), [({"num_classes": 3}, "y_train"), ({"mean": (0.5,)}, "mean"), ({"std": (1, 1)}, "std")]
)
def test_settings_that_do_not_fit_the_file_are_told(tmp_path, settings, where):
    assert where in problems_of(save(tmp_path), **settings)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_what_is_no_npz_file_is_told(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    assert "is no .npz file" in problems_of(tmp_path / "bad.npz")["path"]


def test_a_single_array_is_told(tmp_path):
    np.save(tmp_path / "bad.npy", NHWC)
    assert "holds a single array" in problems_of(tmp_path / "bad.npy")["path"]


def test_a_damaged_array_is_told(tmp_path):
    file = save(tmp_path)
    content = bytearray(file.read_bytes())
    content[1500] ^= 255
    file.write_bytes(content)
    assert "Bad CRC-32" in problems_of(file)["x_train"]


def test_a_file_that_is_not_there_is_no_setting(tmp_path):
    with pytest.raises(ValidationError, match="Path does not point to a file"):
        NpzFile(path=tmp_path / "missing.npz")


def test_a_fingerprint_follows_the_bytes(tmp_path):
    settings = NpzFile(path=save(tmp_path))
    first = fingerprints.npz(settings)
    save(tmp_path, y_test=LABELS[:8][::-1])
    assert fingerprints.npz(settings) != first
    settings.path.unlink()
    with pytest.raises(DataError, match="No such file or directory; correct the path"):
        fingerprints.npz(settings)
