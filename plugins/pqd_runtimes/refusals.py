"""Errors of foreign libraries and files that cannot be trusted, told to a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pqd_core import DeployError, Problem
from pqd_runtimes import MAX_MEGABYTES

T = TypeVar("T")
EXPORT_AGAIN = "export it again"


@contextmanager
def told_as(where: str | Path, what: str, hint: str = "") -> Iterator[None]:
    """Whatever is raised inside leaves as a `DeployError` that says `what` could not be done to `where`."""
    try:
        yield
    except DeployError:
        raise
    except Exception as error:
        raise DeployError(Problem(str(where), f"{what}: {_first_line(error)}", hint)) from error


def _first_line(error: BaseException) -> str:
    """What the error at the root of a chain says first; the others, and OpenVINO's first lines, say only where."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in str(error).splitlines() if not line.startswith("Exception from"))
    return next(filter(None, lines), type(error).__name__)[:300]


def refuse(file: Path, what: str, hint: str = EXPORT_AGAIN) -> DeployError:
    """The error for a file that is not to be opened."""
    return DeployError(Problem(str(file), what, hint))


def check_one_input(file: Path, inputs: Sequence[T]) -> T:
    """The one input of a network.

    Raises:
        DeployError: it has another number of them.
    """
    if len(inputs) != 1:
        raise refuse(file, f"it has {len(inputs)} inputs", "a network must map one batch of images to logits")
    return inputs[0]


def known_shape(file: Path, takes: Iterable[Any], shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of an image, (C, H, W): as the file says by `takes`, or `shape` where it leaves sizes open.

    Raises:
        DeployError: it leaves sizes open, and there is no `shape`.
    """
    own = tuple(takes)
    if all(isinstance(size, int) for size in own):
        return own
    if shape is None:
        raise refuse(file, "it takes images of any size", "say of which size")
    return shape


def check_size(file: Path, max_megabytes: int = MAX_MEGABYTES) -> int:
    """The size of `file` in bytes.

    Raises:
        DeployError: there is no such file, it is empty, or it is larger than `max_megabytes`.
    """
    if not file.is_file():
        raise refuse(file, "there is no such file")
    size = file.stat().st_size
    if not size:
        raise refuse(file, "the file is empty")
    if size > max_megabytes * 2**20:
        raise refuse(file, f"{size / 2**20:.0f} MB is over the limit of {max_megabytes} MB", "raise max_megabytes")
    return size
