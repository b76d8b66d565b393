"""Whether the order of the stages mattered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pqd_core.host.analysis.changes import Kind
from pqd_core.host.analysis.orders import OrderTest
from pqd_core.host.rows import in_words
from pqd_core.host.words import by_runtime, short_metric


def order_verdicts(tests: Sequence[OrderTest]) -> Iterator[str]:
    """A sentence on the first metric for the longest pipelines, and one for whatever else differs beyond chance."""
    groups: dict[tuple[tuple[str, ...], str], list[OrderTest]] = {}
    for test in tests:
        groups.setdefault((tuple(sorted(test.stages)), test.metric), []).append(test)
    for i, group in enumerate(groups.values()):
        if found := [test for test in group if test.answer == "matters"]:
            yield _matters(found)
        elif i == 0:
            yield _cannot_tell(group) if group[0].answer == "cannot-tell" else _no_difference(group)


def _matters(group: Sequence[OrderTest]) -> str:
    told = {
        test.runtime: f"by up to {_size(test)}{_interval(test)}, more than seeds did ({_noise(test)}, "
        f"p = {test.p:.2g}), best {in_words(test.best)}, worst {in_words(test.worst)},"
        for test in group
    }
    return f"order changed {short_metric(group[0].metric)} ({_over(group)}) {by_runtime(told)}"


def _no_difference(group: Sequence[OrderTest]) -> str:
    name = short_metric(group[0].metric)
    return f"no difference in {name} between orders beyond seed noise ({_over(group)}): {_against_seeds(group)}"


def _cannot_tell(group: Sequence[OrderTest]) -> str:
    first, sizes = group[0], by_runtime({test.runtime: f"up to {_size(test)}" for test in group})
    seen = f"{short_metric(first.metric)} differs by {sizes} between {first.orders} orders"
    if first.seeds == 1:
        return f"one seed cannot tell whether order matters: {seen}, and how much of it is chance is not known"
    if first.seeds < first.seeds_needed:
        return f"{first.seeds} seeds cannot tell {first.orders} orders apart, {first.seeds_needed} could: {seen}"
    name = short_metric(first.metric)
    return f"{first.seeds} seeds leave open whether order matters for {name}: {_against_seeds(group)}"


def _against_seeds(group: Sequence[OrderTest]) -> str:
    return by_runtime({t.runtime: f"up to {_size(t)} where seeds give {_noise(t)} (p = {t.p:.2g})" for t in group})


def _over(group: Sequence[OrderTest]) -> str:
    return f"{group[0].orders} orders, {group[0].seeds} seeds"


def _size(test: OrderTest) -> str:
    return _amount(test.largest.value, test.largest.kind)


def _noise(test: OrderTest) -> str:
    return _amount(test.seed_noise or 0.0, test.largest.kind)


def _interval(test: OrderTest) -> str:
    if test.largest.low is None or test.largest.high is None:
        return ""
    low, high = (_amount(end, test.largest.kind) for end in (test.largest.low, test.largest.high))
    return f" (95 % interval {low.removesuffix(' points')} to {high})"


def _amount(value: float, kind: Kind) -> str:
    return f"{value * 100:.2f} points" if kind == "difference" else f"{value:.2f}x"
