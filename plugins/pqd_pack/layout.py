"""Which bytes of which files are coded together; both directions go by it, so that no packed file has to say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from pqd_pack.header import PackedFile
from pqd_pack.regions import ITEM_BYTES, Region


@frozen
class Group:
    """Bytes of one kind, from several places."""

    places: tuple[tuple[int, slice], ...]
    """File and bytes, in their order."""
    width: int = 1
    """How many streams it has: one for the first bytes of all items, one for the second, and so on."""
    dtype: str | None = None
    """That of its tensors; None for what is in no tensor."""
    shape: tuple[int, ...] | None = None
    """That of a weight, which has a single stream."""

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(part.stop - part.start for _, part in self.places)


def groups(files: Sequence[PackedFile], version: int) -> list[Group]:
    """Every byte of `files` in one group: what is in no tensor, small tensors by dtype, weights one by one.

    In version 1 of the format all tensors of floats are small ones.
    """
    tensors = [(index, region) for index, file in enumerate(files) for region in file.regions]
    weights = [one for one in tensors if _is_weight(one[1], version)]
    small = [one for one in tensors if not _is_weight(one[1], version)]
    found = [Group(tuple(_rest(files)))]
    for dtype, width in ITEM_BYTES.items():
        places = tuple(_place(index, region) for index, region in small if region.dtype == dtype)
        if places:
            found.append(Group(places, width, dtype))
    return [*found, *(Group((_place(index, region),), 1, region.dtype, region.shape) for index, region in weights)]


def _is_weight(region: Region, version: int) -> bool:
    return region.is_weight or (region.is_float_weight and version > 1)


def _place(index: int, region: Region) -> tuple[int, slice]:
    return index, slice(region.start, region.stop)


def _rest(files: Sequence[PackedFile]) -> Iterator[tuple[int, slice]]:
    for index, file in enumerate(files):
        end = 0
        for region in file.regions:
            yield index, slice(end, region.start)
            end = region.stop
        yield index, slice(end, file.size)
