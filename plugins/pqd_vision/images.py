"""Image files as a map-style dataset: read, augmented and normalized one by one."""

from __future__ import annotations

import math

import numpy as np
import torch
from attrs import evolve, frozen
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from pqd_core import DataError, Problem

CROP_SHARE = (0.08, 1.0)
"""Share of the image's area that a random crop shows (Szegedy et al. 2015, section 6)."""
CROP_RATIO = (3 / 4, 4 / 3)
"""Its width to its height."""
CROP_TRIES = 10

Box = tuple[float, float, float, float]


@frozen(eq=False)
class Images:
    """Images of files, brought to `size` (height, width); randomly cropped and mirrored if `augmented`."""

    samples: tuple[tuple[str, int], ...]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmented: bool = False

    @property
    def targets(self) -> list[int]:
        """The labels, in order."""
        return [label for _, label in self.samples]

    @property
    def unaugmented(self) -> Images:
        """The same images, shown whole."""
        return evolve(self, augmented=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        """The normalized float32 image (3, H, W) and its label.

        Raises:
            DataError: the file cannot be read.
        """
        path, label = self.samples[index]
        image = read_image(path)
        rng = generator(index) if self.augmented else None
        box = random_box(*image.size, rng) if rng else None
        image = image.resize(self.size[::-1], Image.Resampling.BILINEAR, box=box)
        if rng and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return normalized(image, self.mean, self.std), label


def normalized(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The pixels of an RGB image, float32 (3, H, W), less `mean` and divided by `std`."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
    return pixels.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None]).contiguous()


def generator(index: int) -> np.random.Generator:
    """Randomness for one showing of one image.

    In a loader's worker it comes from the seed that the loader drew for all its workers and from the index, so that
    any number of workers shows the same crops; without workers it comes from torch's own generator.
    """
    worker = get_worker_info()
    if worker is None:
        return np.random.default_rng(int(torch.randint(2**62, ())))
    return np.random.default_rng([worker.seed - worker.id, index])


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """(left, top, right, bottom) of a part of the image with a random area and shape; all of it if none fits."""
    for _ in range(CROP_TRIES):
        area = width * height * rng.uniform(*CROP_SHARE)
        ratio = math.exp(rng.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height


def read_image(path: str) -> Image.Image:
    """The image in RGB.

    Raises:
        DataError: the file is damaged, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def size_on_disk(path: str) -> tuple[int, int]:
    """Height and width as the file's header tells them.

    Raises:
        DataError: the file is damaged, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size[::-1]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    what = f"{path} cannot be read as an image: {error}"
    return DataError(Problem("dataset.image-folder", what, "replace the file or delete it"))
