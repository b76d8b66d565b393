"""What the options of `pqd bench` mean, each refused by its own name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from pqd_core import DataError, Problem, to_problems
from pqd_measure import LatencySettings
from pqd_measure.bench_files import BenchFile

Shape = tuple[int, ...]
SIZE = re.compile(r"\s*0*([1-9][0-9]{0,8})\s*")
"""Of one dimension."""


def checked_settings(**given: Any) -> LatencySettings:
    """The settings of the measurement.

    Raises:
        DataError: with every option that cannot be.
    """
    try:
        return LatencySettings(**given)
    except ValidationError as error:
        found = to_problems(error, LatencySettings)
        options = (Problem(f"--{problem.where.replace('_', '-')}", problem.what, problem.hint) for problem in found)
        raise DataError(*options) from None


def baseline_among(files: Sequence[BenchFile], name: str | None) -> BenchFile:
    """The file of that name, the first one if none is given.

    Raises:
        DataError: none is called so.
    """
    if name is None:
        return files[0]
    for one in files:
        if name in (one.argument, one.label):
            return one
    known = ", ".join(one.label for one in files)
    raise DataError(Problem("--baseline", f"'{name}' is none of the files", f"write one of {known}"))


def shape_written(text: str) -> Shape:
    """The shape of an image, from `3,224,224` or `3x224x224`.

    Raises:
        DataError: it is none.
    """
    sizes = [SIZE.fullmatch(part) for part in text.replace("x", ",").split(",")]
    if None in sizes:
        raise DataError(Problem("--shape", f"'{text}' is no shape of an image", "write it as 3,224,224"))
    return tuple(int(size[1]) for size in sizes if size)
