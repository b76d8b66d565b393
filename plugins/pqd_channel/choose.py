"""Which channels go: blocks of the least important, until the network has no more work than it may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
    blocks = [block for i, scores in enumerate(worth) for block in _blocks(i, scores, settings)]
    for block in sorted(blocks):
        gone[block.group] = block.gone
        if macs(work, groups, gone) <= most_macs:
            return {
                group.root: sorted(scores.argsort(stable=True)[:count].tolist())
                for group, scores, count in zip(groups, worth, gone, strict=True)
                if count
            }
    least, total = macs(work, groups, gone), macs(work, groups, [0] * len(groups))
    what = f"{most_macs:.3g} multiply-adds cannot be reached: the narrowest allowed network has {least:.3g}"
    hint = f"of {total:.3g} now; lower min_width or multiple, exclude less, or ask for more macs"
    raise PqdError(Problem(f"{WHERE}.macs", what, hint))


def _blocks(group: int, worth: Tensor, settings: ChannelSettings) -> Iterator[Block]:
    """The steps down of a group: first to a multiple, then by one multiple at a time, not below the least width."""
    ascending, gone = worth.sort(stable=True).values, 0
    size = len(worth) % settings.multiple or settings.multiple
    while len(worth) - gone - size >= settings.min_width:
        key = float(ascending[gone : gone + size].mean())
        gone, size = gone + size, settings.multiple
        yield Block(gone / len(worth) if settings.scope == "layer" else key, group, gone)
