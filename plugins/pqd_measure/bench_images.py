"""What `pqd bench` feeds to the files: images of a person's, or random ones."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from pqd_core import DataError, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFERRED = ("x_test", "images", "x", "data", "x_train")
CHANNELS = (1, 3, 4)
MOST_BYTES = 2**30
"""No batch of images needs more."""


def random_images(shape: tuple[int, ...], count: int, seed: int) -> NDArray[np.float32]:
    """`count` images of `shape`, standard normal as normalized ones nearly are.

    Raises:
        Unfit: they would fill the memory.
    """
    if reason := _too_many(count, shape):
        raise Unfit(f"{reason}; give a smaller --batch or --shape")
    return np.random.default_rng(seed).standard_normal((count, *shape), np.float32)


def read_images(file: Path, count: int) -> NDArray[np.float32]:
    """`count` images (count, C, H, W) of an .npz or .npy, from its beginning, over again where there are fewer.

    Bytes (N, H, W), (N, H, W, C) or (N, C, H, W) are normalized by their own mean and deviation; floats are taken
    as they are. No more of the file is read than that.

    Raises:
        DataError: there are no images in it.
    """
    try:
        with _opened(file) as stream:
            images = _first(file, stream, count)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            Problem(str(file), f"no images can be read: {reason}", "give an .npz or .npy of them")
        ) from error
    images = _channels_first(images)
    if reason := _too_many(count, images.shape[1:]):
        raise DataError(Problem("--batch", reason, "give a smaller one"))
    if images.dtype == np.uint8:
        axes = (0, 2, 3)
        mean, deviation = images.mean(axes, keepdims=True), images.std(axes, keepdims=True)
        images = (images - mean) / np.maximum(deviation, 1)
    return np.ascontiguousarray(np.resize(images, (count, *images.shape[1:])), np.float32)


def _too_many(count: int, shape: Sequence[int]) -> str:
    """Why so many images of float32 are refused; empty if they are not."""
    size = 4 * count * math.prod(shape)
    return f"{count} images of {_written(shape)} take {size / 1e6:,.0f} MB" if size > MOST_BYTES else ""


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of the array of images, header first."""
    if file.suffix == ".npy":
        with file.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        chosen = next((name for name in PREFERRED if name in names), names[0] if len(names) == 1 else None)
        if chosen is None:
            raise ValueError(f"it holds {', '.join(names[:9]) or 'nothing'}; call the images {PREFERRED[0]}")
        with archive.open(f"{chosen}.npy") as stream:
            yield stream


def _first(file: Path, stream: IO[bytes], count: int) -> NDArray[np.generic]:
    """The first `count` images; what the header promises is not believed before it is read."""
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in header:
        raise ValueError(f"its format {version} is not known")
    shape, fortran, dtype = header[version](stream)
    if fortran or dtype.kind not in "uf" or (dtype.kind == "u" and dtype.itemsize > 1) or len(shape) not in (3, 4):
        raise ValueError(f"an array {shape} of {dtype} is none of images, uint8 or float")
    here = min(count, shape[0])
    size = here * math.prod(shape[1:]) * dtype.itemsize
    if not 0 < size <= MOST_BYTES:
        raise ValueError(f"{here} of its images {shape[1:]} take {size} bytes")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it ends too early")
    return np.frombuffer(content, dtype).reshape(here, *shape[1:])


def _channels_first(images: NDArray[np.generic]) -> NDArray[np.generic]:
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in CHANNELS and images.shape[1] not in CHANNELS:
        return images.transpose(0, 3, 1, 2)
    return images


class Unfit(Exception):
    """Images that a file does not take; the text says why."""


def fitting_shape(
    takes: Sequence[int | None] | None, batch: int, asked: tuple[int, ...] | None, given: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The shape of one image for a file that `takes` (N, ...): the given images', the asked one, or the file's own.

    Raises:
        Unfit: they differ, or nobody knows.
    """
    wanted = given or asked
    if takes is None:
        if wanted is None:
            raise Unfit("its runtime does not tell what images it takes; give --shape C,H,W")
        return wanted
    if takes[0] not in (None, batch):
        raise Unfit(f"it takes {takes[0]} images at a time; give --batch {takes[0]}")
    own = takes[1:]
    if wanted is None:
        if None in own:
            raise Unfit(f"it takes images of any size ({_written(own)}); give --shape")
        return tuple(size for size in own if size is not None)
    if len(own) != len(wanted) or any(size not in (None, want) for size, want in zip(own, wanted, strict=True)):
        others = "those of --images are" if given else "--shape says"
        raise Unfit(f"it takes images of {_written(own)}, {others} {_written(wanted)}")
    return wanted


def _written(shape: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)
