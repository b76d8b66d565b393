"""What a packed file says of itself, checked before a byte of it is decoded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pqd_core import Settings
from pqd_pack.regions import ITEM_BYTES, Region

NAME = re.compile(r"[^/\\\0-\x1f\x7f-\x9f\ud800-\udfff]+")
MOST_TENSORS = 2**16
LONGEST_NAME = 255
Bytes = Annotated[int, Field(ge=0, le=2**48)]
Dtype = Literal["i8", "u8", "i32", "i64", "f16", "bf16", "f32", "f64"]
Tensor = tuple[Bytes, Dtype, Annotated[tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(max_length=16)]]


def is_plain(name: str) -> bool:
    """Whether a file of this name stays in the folder where it is put, on any machine, and prints as one line."""
    return bool(NAME.fullmatch(name)) and name not in (".", "..") and len(name.encode()) <= LONGEST_NAME


class PackedFile(Settings):
    """One of the files that a packed file gives back."""

    name: str = Field(description="Its name, without a folder.")
    size: Bytes = Field(description="Its length in bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="sha-256 of its bytes.")
    tensors: tuple[Tensor, ...] = Field(
        (), max_length=MOST_TENSORS, description="Bytes since the tensor before, dtype and shape of each."
    )

    @field_validator("name")
    @classmethod
    def _stays_in_its_folder(cls, name: str) -> str:
        if not is_plain(name):
            raise ValueError(f"{name[:80]!r} is no plain file name")
        return name

    @model_validator(mode="after")
    def _tensors_fit(self) -> Self:
        if self.tensors and self.regions[-1].stop > self.size:
            raise ValueError(f"{self.name[:80]!r} has more tensors than bytes")
        return self

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Its tensors at their places."""
        return tuple(self._regions())

    def _regions(self) -> Iterator[Region]:
        end = 0
        for gap, dtype, shape in self.tensors:
            start, end = end + gap, end + gap + math.prod(shape) * ITEM_BYTES[dtype]
            yield Region(start, end, dtype, shape)


class Header(Settings):
    """The files, and how each stream of their parts is coded."""

    files: tuple[PackedFile, ...] = Field(min_length=1, max_length=64, description="The files, in their order.")
    streams: tuple[tuple[str, Bytes], ...] = Field(
        max_length=2 * MOST_TENSORS, description="Codec and length of each stream, in its order."
    )

    @field_validator("files")
    @classmethod
    def _one_name_one_file(cls, files: tuple[PackedFile, ...]) -> tuple[PackedFile, ...]:
        names = sorted(file.name.casefold() for file in files)
        if any(one == other for one, other in pairwise(names)):
            raise ValueError("two files have one name")
        return files

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def described(name: str, size: int, sha256: str, regions: list[Region]) -> PackedFile:
    """The header's words for a file."""
    ends = [0, *(region.stop for region in regions)]
    tensors = tuple((r.start - end, r.dtype, r.shape) for end, r in zip(ends, regions, strict=False))
    return PackedFile.model_validate({"name": name, "size": size, "sha256": sha256, "tensors": tensors})
