"""Whether the order of the stages mattered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pqd_core.host.analysis import Analysis
from pqd_core.host.analysis.changes import Kind
from pqd_core.host.analysis.goals import ACCURACY
from pqd_core.host.analysis.orders import OrderTest
from pqd_core.host.analysis.summaries import Summary
from pqd_core.host.rows import in_words
from pqd_core.host.words import by_runtime, counted, short_metric


def order_verdicts(analysis: Analysis) -> Iterator[str]:
    """Sentences on accuracy for the longest pipelines, and one for whatever else differs beyond chance."""
    headline = _headline(analysis)
    yield from _not_compared(analysis, headline)
    groups: dict[tuple[tuple[str, ...], str], list[OrderTest]] = {}
    for test in sorted(analysis.orders, key=lambda test: (test.metric != headline, -len(test.stages))):
        groups.setdefault((tuple(sorted(test.stages)), test.metric), []).append(test)
    for i, group in enumerate(groups.values()):
        for alike in _alike(group):
            if alike[0].answer == "matters":
                yield from [_matters(alike, analysis.orders)] if i == 0 or any(map(_is_seen, alike)) else ()
            elif i == 0:
                yield _cannot_tell(alike) if alike[0].answer == "cannot-tell" else _no_difference(alike)


def _headline(analysis: Analysis) -> str:
    """Accuracy, or the first metric of which one side is better."""
    cells = [item for summary in analysis.summaries for item in summary.cells.items()]
    compared = [name for name, cell in cells if cell.headline and cell.better != "neither"]
    return ACCURACY if ACCURACY in compared else next(iter(compared), "")


def _not_compared(analysis: Analysis, metric: str) -> Iterator[str]:
    """That no seed has the metric in all orders of the written stages, and which orders lack seeds."""
    stages, tested = (
        sorted(analysis.written),
        {(*sorted(test.stages), test.runtime) for test in analysis.orders if test.metric == metric},
    )
    orders: dict[str, list[Summary]] = {}
    for summary in analysis.summaries:
        if sorted(summary.pipeline) == stages and (*stages, summary.runtime) not in tested:
            orders.setdefault(summary.runtime, []).append(summary)
    told = {runtime: _lacking(here, metric, len(analysis.seeds)) for runtime, here in orders.items() if len(here) > 1}
    if told:
        yield (
            f"orders of {_named(stages)} cannot be compared by {short_metric(metric)}, no seed has all: "
            + by_runtime(told)
        )


def _lacking(orders: Sequence[Summary], metric: str, seeds: int) -> str:
    found = {order.label: cell.n if (cell := order.cells.get(metric)) else 0 for order in orders}
    return ", ".join(f"{label} has {n} of {seeds} seeds" for label, n in found.items() if n < seeds)


def _alike(group: Sequence[OrderTest]) -> list[list[OrderTest]]:
    """The tests of the runtimes that have the same answer from as many orders and seeds."""
    groups: dict[tuple[str, int, int], list[OrderTest]] = {}
    for test in group:
        groups.setdefault((test.answer, test.orders, test.seeds), []).append(test)
    return list(groups.values())


def _matters(group: Sequence[OrderTest], tests: Sequence[OrderTest]) -> str:
    told = {
        test.runtime: f"by up to {_size(test)}{_interval(test)}, more than seeds did ({_noise(test)}, "
        f"{_p(test)}), best {in_words(test.best)}, worst {in_words(test.worst)},"
        for test in group
    }
    alike = [test for test in tests if test.metric == group[0].metric]
    found, made = sum(test.answer == "matters" for test in alike), group[0].tests or len(alike)
    many = f"; {found} of {made} tests find that order matters" if made > 1 else ""
    over = f"{_over(group)}{many}{_correction(group)}"
    return f"order of {_of(group)} changed {short_metric(group[0].metric)} ({over}) {by_runtime(told)}"


def _is_seen(test: OrderTest) -> bool:
    """Three bytes of a hundred thousand differ in every seed, and are no finding."""
    return _size(test) not in ("1.00x", "0.00 points")


def _no_difference(group: Sequence[OrderTest]) -> str:
    seen = f"no difference in {short_metric(group[0].metric)} between orders of {_of(group)} beyond seed noise"
    return f"{seen} ({_over(group)}{_correction(group)}): {_against_seeds(group)}"


def _cannot_tell(group: Sequence[OrderTest]) -> str:
    first, name, stages = group[0], short_metric(group[0].metric), _of(group)
    sizes = by_runtime({test.runtime: f"up to {_size(test)}" for test in group})
    seen = f"{name} differs by {sizes} between {first.orders} orders"
    if first.seeds == 1:
        return (
            f"one seed cannot tell whether the order of {stages} matters: {seen}, how much of it is chance is unknown"
        )
    if first.seeds < first.seeds_needed:
        needed = f"no fewer than {first.seeds_needed} could"
        return f"{first.seeds} seeds cannot tell {first.orders} orders of {stages} apart, {needed}: {seen}"
    return (
        f"{first.seeds} seeds leave open whether the order of {stages} matters for {name}: {_against_seeds(group)}"
        f"{_correction(group)}"
    )


def _of(group: Sequence[OrderTest]) -> str:
    return _named(sorted(group[0].stages))


def _named(stages: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(stages[:-1]), stages[-1])))


def _against_seeds(group: Sequence[OrderTest]) -> str:
    return by_runtime({t.runtime: f"up to {_size(t)} where seeds give {_noise(t)} ({_p(t)})" for t in group})


def _p(test: OrderTest) -> str:
    """`p = 0.012, uncorrected 0.003`; alone where there was nothing to correct for."""
    if test.p_corrected is None or (test.tests or 1) == 1:
        return f"p = {test.p:.2g}"
    return f"p = {test.p_corrected:.2g}, uncorrected {test.p:.2g}"


def _over(group: Sequence[OrderTest]) -> str:
    return f"{counted(group[0].orders, 'order')}, {counted(group[0].seeds, 'seed')}"


def _correction(group: Sequence[OrderTest]) -> str:
    first = group[0]
    return f"; p corrected for {first.tests} tests by {first.correction}" if (first.tests or 1) > 1 else ""


def _size(test: OrderTest) -> str:
    return _amount(test.largest.value, test.largest.kind)


def _noise(test: OrderTest) -> str:
    return _amount(test.seed_noise or 0.0, test.largest.kind)


def _interval(test: OrderTest) -> str:
    if test.interval is None:
        return ""
    low, high = (_amount(end, test.largest.kind) for end in test.interval)
    return f" (95 % interval {low.removesuffix(' points')} to {high})"


def _amount(value: float, kind: Kind) -> str:
    return f"{value * 100:.2f} points" if kind == "difference" else f"{value:.2f}x"
