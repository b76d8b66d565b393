"""The user's own images: laid out in folders, resized or all of one size, augmented the same way for any loader."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_data import write_folders
from torch.utils.data import DataLoader

from pqd_core import DataError
from pqd_vision import fingerprints
from pqd_vision.image_folder import open_data
from pqd_vision.images import Images, random_box
from pqd_vision.settings import ImageFolder

RNG = np.random.default_rng(0)
CLASSES = ("ant", "bee", "cat")


def draw(path, width: int = 20, height: int = 12, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8), mode).save(path)


@pytest.fixture
def root(tmp_path):
    """Three classes with 4 training and 2 test images each, all of 20x12 pixels."""
    write_folders(tmp_path, CLASSES)
    return tmp_path


def test_images_of_one_size_keep_it(root):
    data = open_data(ImageFolder(root=root))
    assert data.info.shape == (3, 12, 20)
    assert data.info.classes == CLASSES
    assert (len(data.train), len(data.test), data.validation) == (12, 6, None)
    image, label = data.test[5]
    assert (image.shape, image.dtype, label) == ((3, 12, 20), torch.float32, 2)


def test_a_test_image_is_shown_whole_and_normalized(root):
    data = open_data(ImageFolder(root=root, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)))
    pixels = np.asarray(Image.open(root / "test" / "ant" / "0.png")) / 255
    expected = ((pixels - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4)).transpose(2, 0, 1)
    assert torch.allclose(data.test[0][0], torch.tensor(expected, dtype=torch.float32), atol=1e-6)


def test_images_of_several_sizes_and_kinds_are_brought_to_one(root):
    draw(root / "train" / "ant" / "wide.png", 50, 8)
    draw(root / "test" / "bee" / "grey.jpg", 9, 40, "L")
    draw(root / "test" / "bee" / "clear.png", 9, 40, "RGBA")
    data = open_data(ImageFolder(root=root, size=16))
    assert data.info.shape == (3, 16, 16)
    assert {tuple(split[i][0].shape) for split in (data.train, data.test) for i in range(len(split))} == {(3, 16, 16)}


def test_images_of_several_sizes_need_a_size(root):
    draw(root / "test" / "bee" / "other.png", 9, 40)
    with pytest.raises(DataError, match=r"train/ant/0\.png is 20x12 pixels, .*test/bee/other\.png is 9x40; set size"):
        open_data(ImageFolder(root=root))


def test_val_is_the_test_where_there_is_no_test(root):
    (root / "test").rename(root / "val")
    data = open_data(ImageFolder(root=root))
    assert (len(data.test), data.validation) == (6, None)


def test_val_is_for_validation_where_there_is_a_test(root):
    draw(root / "val" / "cat" / "0.png")
    data = open_data(ImageFolder(root=root))
    assert (len(data.test), data.validation.targets) == (6, [2])


def test_classes_have_the_numbers_of_the_training_folder(root):
    for file in (root / "test" / "ant").iterdir():
        file.unlink()
    (root / "test" / "ant").rmdir()
    assert open_data(ImageFolder(root=root)).test.targets == [1, 1, 2, 2]


def test_a_class_that_training_does_not_know_is_told(root):
    (root / "test" / "ant").rename(root / "test" / "aunt")
    with pytest.raises(DataError, match="test has classes that train/ has not: aunt"):
        open_data(ImageFolder(root=root))


def test_a_limit_keeps_the_share_of_each_class(root):
    data = open_data(ImageFolder(root=root, limit=6, limit_test=3))
    assert data.train.targets == [0, 0, 1, 1, 2, 2]
    assert data.test.targets == [0, 1, 2]
    with pytest.raises(DataError, match=r"dataset\.image-folder\.limit: 13 images were asked for, there are 12"):
        open_data(ImageFolder(root=root, limit=13))


@pytest.mark.parametrize("gone", ["train", "test"])
def test_a_missing_part_is_told(root, gone):
    (root / gone).rename(root / "elsewhere")
    for ask in (open_data, fingerprints.image_folder):
        with pytest.raises(DataError, match=r"holds no train/ with test/ or val/; lay the images out"):
            ask(ImageFolder(root=root))


def test_a_missing_folder_is_told(tmp_path):
    for ask in (open_data, fingerprints.image_folder):
        with pytest.raises(DataError, match=rf"{tmp_path}/nowhere is not a folder"):
            ask(ImageFolder(root=tmp_path / "nowhere"))


def test_a_class_without_images_is_told(root):
    (root / "train" / "dog").mkdir()
    with pytest.raises(DataError, match=r"classes dog.*put each class's images into a folder of its own"):
        open_data(ImageFolder(root=root))


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_file_that_is_no_image_is_told_when_sizes_are_compared(root, content):
    (root / "train" / "bee" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"train/bee/1\.png cannot be read as an image.*replace the file or delete it"):
        open_data(ImageFolder(root=root))


def test_a_truncated_image_is_told_when_it_is_shown(root):
    file = root / "test" / "ant" / "0.png"
    file.write_bytes(file.read_bytes()[:-300])
    data = open_data(ImageFolder(root=root))
    with pytest.raises(DataError, match=r"test/ant/0\.png cannot be read as an image"):
        data.test[0]


def test_a_truncated_image_is_told_from_a_loaders_worker_too(root):
    file = root / "test" / "ant" / "0.png"
    file.write_bytes(file.read_bytes()[:-300])
    loader = DataLoader(open_data(ImageFolder(root=root)).test, num_workers=1)
    with pytest.raises(DataError, match=r"test/ant/0\.png cannot be read as an image"):
        list(loader)


def epoch(images: Images, workers: int, seed: int) -> torch.Tensor:
    """All images in order, as a loader shows them in the epoch of that seed."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([x for x, _ in DataLoader(images, batch_size=5, num_workers=workers, generator=generator)])


def test_any_number_of_workers_shows_the_same_crops(root):
    train = open_data(ImageFolder(root=root, size=8)).train
    assert torch.equal(epoch(train, 1, seed=0), epoch(train, 2, seed=0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_shows_other_crops_than_the_last_but_the_same_for_its_seed(root, workers):
    train = open_data(ImageFolder(root=root, size=8)).train
    assert torch.equal(epoch(train, workers, seed=0), epoch(train, workers, seed=0))
    assert not torch.equal(epoch(train, workers, seed=0), epoch(train, workers, seed=1))


def test_two_looks_at_a_training_image_differ_and_at_a_test_image_do_not(root):
    data = open_data(ImageFolder(root=root))
    assert not torch.equal(data.train[0][0], data.train[0][0])
    assert torch.equal(data.test[0][0], data.test[0][0])
    plain = data.train.unaugmented
    assert torch.equal(plain[0][0], plain[0][0])


def test_half_of_the_training_images_are_mirrored(root, monkeypatch):
    monkeypatch.setattr("pqd_vision.images.random_box", lambda width, height, rng: (0, 0, width, height))
    data = open_data(ImageFolder(root=root))
    whole = data.train.unaugmented[0][0]
    torch.manual_seed(0)
    mirrored = [torch.equal(data.train[0][0], whole.flip(-1)) for _ in range(200)]
    upright = [torch.equal(data.train[0][0], whole) for _ in range(200)]
    assert 70 < sum(mirrored) < 130
    assert 70 < sum(upright) < 130


def test_crops_lie_in_the_image_and_have_the_papers_areas_and_shapes():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(200, 100, rng) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 200
    assert boxes[:, 3].max() <= 100
    cropped = (width < 200) | (height < 100)
    assert cropped.mean() > 0.9
    assert 0.07 < (width * height / 20_000)[cropped].min() < 0.12
    assert 0.72 < (width / height)[cropped].min() < 0.8
    assert 1.25 < (width / height)[cropped].max() < 1.38


def test_an_image_too_flat_for_any_crop_is_shown_whole():
    assert random_box(1000, 1, np.random.default_rng(0)) == (0, 0, 1000, 1)


def test_a_fingerprint_follows_names_and_sizes_but_not_the_place(root, tmp_path_factory):
    settings = ImageFolder(root=root)
    first = fingerprints.image_folder(settings)
    moved = tmp_path_factory.mktemp("moved") / "images"
    root.rename(moved)
    assert fingerprints.image_folder(ImageFolder(root=moved)) == first
    draw(moved / "test" / "bee" / "more.png")
    assert fingerprints.image_folder(ImageFolder(root=moved)) != first
