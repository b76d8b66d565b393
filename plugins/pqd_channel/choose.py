"""Which channels go: blocks of the least important, until the network has no more work than it may."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import frozen
from torch import Tensor

from pqd_channel import ChannelSettings
from pqd_channel.groups import WHERE, Group
from pqd_channel.work import Work, macs
from pqd_core import PqdError, Problem


@frozen(order=True)
class Block:
    """A step down of one group to its next allowed width; smaller ones are taken first."""

    key: float
    group: int
    gone: int
    """Channels that the group has lost after it."""
    size: int
    """How many of them went with it."""


def choose_channels(
    groups: Sequence[Group],
    worth: Sequence[Tensor],
    work: Mapping[str, Work],
    most_macs: float,
    settings: ChannelSettings,
) -> dict[str, list[int]]:
    """The channels to remove, by the root of their group, that leave at most `most_macs` multiply-adds.

    Raises:
        PqdError: even the narrowest allowed network has more work.
    """
    gone = [0] * len(groups)
    blocks = sorted(block for i, scores in enumerate(worth) for block in _blocks(i, scores, settings))
    for taken, block in enumerate(blocks, 1):
        gone[block.group] = block.gone
        if macs(work, groups, gone) <= most_macs:
            gone = _given_back(blocks[:taken], gone, lambda fewer: macs(work, groups, fewer) <= most_macs)
            return {
                group.root: sorted(scores.argsort(stable=True)[:count].tolist())
                for group, scores, count in zip(groups, worth, gone, strict=True)
                if count
            }
    least, total = macs(work, groups, gone), macs(work, groups, [0] * len(groups))
    what = f"{most_macs:.3g} multiply-adds cannot be reached: the narrowest allowed network has {least:.3g}"
    share = math.ceil(least / total * 100) / 100
    more = f"ask for macs: {share:g}, or " if share < 1 else ""
    hint = f"of {total:.3g} now; {more}lower min_width or multiple, or exclude less"
    raise PqdError(Problem(f"{WHERE}.macs", what, hint))


def _given_back(taken: Sequence[Block], gone: Sequence[int], fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """`gone`, less what the last and largest steps took too much: the most important blocks return first."""
    kept = list(gone)
    for block in reversed(taken):
        fewer = [block.gone - block.size if i == block.group else count for i, count in enumerate(kept)]
        if kept[block.group] == block.gone and fits(fewer):
            kept = fewer
    return kept


def _blocks(group: int, worth: Tensor, settings: ChannelSettings) -> Iterator[Block]:
    """The steps down of a group: first to a multiple, then by one multiple at a time, not below the least width."""
    ascending, gone = worth.sort(stable=True).values, 0
    size = len(worth) % settings.multiple or settings.multiple
    while len(worth) - gone - size >= settings.min_width:
        key = float(ascending[gone : gone + size].mean())
        gone += size
        yield Block(gone / len(worth) if settings.scope == "layer" else key, group, gone, size)
        size = settings.multiple
