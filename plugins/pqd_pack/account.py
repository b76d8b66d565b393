"""What a packed file weighs, part by part, and what its weights would weigh by their frequencies alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
from attrs import frozen

from pqd_pack.container import unseal
from pqd_pack.header import Header
from pqd_pack.layout import Group, groups
from pqd_pack.regions import FLOATS, find_regions

WEIGHTS, FLOAT_WEIGHTS = "INT8 weights", "float weights"


@frozen
class Part:
    """One kind of content: its tensors, its bytes, and its bytes when packed."""

    kind: str
    tensors: int
    size: int
    packed: int


@frozen
class Account:
    """A packed file's files and parts; the parts' packed bytes sum to its own."""

    header: Header
    parts: tuple[Part, ...]
    packed: int

    @property
    def bits_per_weight(self) -> float | None:
        """What an INT8 weight takes on average; None if there is none."""
        weights = next((part for part in self.parts if part.kind == WEIGHTS), None)
        return 8 * weights.packed / weights.size if weights else None


def account(data: bytes, largest: int) -> Account:
    """The account of a packed file, of which nothing but the header is decoded.

    Raises:
        Damaged: this is no packed file, or a damaged one.
        TooLarge: its files are longer than `largest` bytes.
    """
    sealed = unseal(data, largest)
    sizes, parts = map(len, sealed.streams), dict[str, Part]()
    for group in groups(sealed.header.files, sealed.version):
        kind, packed = _kind(group), sum(islice(sizes, group.width))
        before = parts.get(kind, Part(kind, 0, 0, 0))
        tensors = before.tensors + len(group.places) * (kind != "graph")
        parts[kind] = Part(kind, tensors, before.size + group.size, before.packed + packed)
    own = Part("header and checksum", 0, 0, len(data) - sum(part.packed for part in parts.values()))
    return Account(sealed.header, (*parts.values(), own), len(data))


def _kind(group: Group) -> str:
    if group.shape is not None:
        return FLOAT_WEIGHTS if group.dtype in FLOATS else WEIGHTS
    return "scales, biases and other tensors" if group.dtype else "graph"


def weights_in(files: Mapping[str, bytes]) -> Iterator[np.ndarray]:
    """Every weight that `pack` would code as one, int8, in its shape."""
    for name, data in files.items():
        for region in find_regions(name, data, files.get):
            if region.is_weight:
                yield np.frombuffer(data[region.start : region.stop], np.int8).reshape(region.shape)


def entropy_bits(counts: np.ndarray) -> float:
    """The zero-order entropy, in bits for all of them together, of symbols that occur `counts` times each."""
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def frequencies(weights: np.ndarray) -> np.ndarray:
    """How often each of the 256 bytes is in `weights`."""
    return np.bincount(weights.reshape(-1).view(np.uint8), minlength=256)
