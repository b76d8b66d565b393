"""Files taken apart into streams of one kind each, and put together again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from pqd_pack import codecs, floats, weights
from pqd_pack.container import VERSION, seal, unseal
from pqd_pack.damage import Damaged
from pqd_pack.header import Header, described
from pqd_pack.layout import Group, groups
from pqd_pack.regions import FLOATS, find_regions
from pqd_pack.weights import Turns

Stream = tuple[str, bytes]
"""The codec's name and what it has made."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """`files`, by name, as one packed file."""
    parts = tuple(
        described(name, len(data), hashlib.sha256(data).hexdigest(), find_regions(name, data, files.get))
        for name, data in files.items()
    )
    contents = list(files.values())
    turns = Turns(sum(map(len, contents)))
    streams = [stream for group in groups(parts, VERSION) for stream in _shrunk(group, contents, turns)]
    header = Header(files=parts, streams=tuple((codec, len(data)) for codec, data in streams))
    return seal(header, [data for _, data in streams])


def _shrunk(group: Group, contents: list[bytes], turns: Turns) -> Iterator[Stream]:
    data = b"".join(contents[index][part] for index, part in group.places)
    if group.shape is None:
        yield from (codecs.shrink(data[plane :: group.width]) for plane in range(group.width))
    elif group.dtype in FLOATS:
        yield floats.shrink(data, group.dtype, group.shape, turns)
    else:
        yield weights.shrink(data, group.shape, turns)


def unpack(data: bytes, largest: int) -> dict[str, bytes]:
    """The files, by name, that `pack` was given, bit for bit.

    Raises:
        Damaged: this is no packed file, or a damaged one.
        TooLarge: the files are longer than `largest` bytes, or would take hours.
    """
    sealed = unseal(data, largest)
    header = sealed.header
    streams = ((codec, bytes(part)) for (codec, _), part in zip(header.streams, sealed.streams, strict=True))
    expected = groups(header.files, sealed.version)
    if len(sealed.streams) != sum(group.width for group in expected):
        raise Damaged("its header lists streams that its files do not have")
    contents, turns = [np.empty(file.size, np.uint8) for file in header.files], Turns(header.size)
    for group in expected:
        _put(contents, group, _expanded(group, list(islice(streams, group.width)), turns))
    files = {file.name: content.tobytes() for file, content in zip(header.files, contents, strict=True)}
    for file in header.files:
        if hashlib.sha256(files[file.name]).hexdigest() != file.sha256:
            raise Damaged(f"what it holds of {file.name} does not match its checksum")
    return files


def _expanded(group: Group, streams: list[Stream], turns: Turns) -> np.ndarray:
    if group.shape is not None and group.dtype in FLOATS:
        return floats.expand(*streams[0], group.dtype, group.shape, turns)
    if group.shape is not None:
        return weights.expand(*streams[0], group.shape, turns)
    items = group.size // group.width
    planes = [codecs.expand(*stream, items) for stream in streams]
    return np.stack([np.frombuffer(plane, np.uint8) for plane in planes], axis=1).reshape(-1)


def _put(contents: list[np.ndarray], group: Group, values: np.ndarray) -> None:
    end = 0
    for index, part in group.places:
        start, end = end, end + part.stop - part.start
        contents[index][part] = values[start:end]
