"""Who takes turns with whom, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def shuffled_rounds(members: Sequence[T], rounds: int, seed: int) -> Iterator[list[T]]:
    """`rounds` times all members, each time in another order, so that a drift of the machine hits all alike."""
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        yield [members[i] for i in rng.permutation(len(members))]


def groups_with_references(references: Sequence[int | None], at_once: int) -> list[list[int]]:
    """Indices of all candidates in groups of `at_once` at most, each beside the one it is compared with, if any.

    As few groups as that needs, and of much the same size.
    """
    fewest = len(list(_filled(references, at_once)))
    sizes = (size for size in range(2, at_once + 1) if len(list(_filled(references, size))) == fewest)
    return list(_filled(references, next(sizes)))


def _filled(references: Sequence[int | None], at_once: int) -> Iterator[list[int]]:
    """One group filled after the other."""
    group: set[int] = set()
    for index, reference in enumerate(references):
        wanted = {index} if reference is None else {index, reference}
        if len(group | wanted) > at_once:
            yield sorted(group)
            group = set()
        group |= wanted
    if group:
        yield sorted(group)
