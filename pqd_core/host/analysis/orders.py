"""Whether the order of the same stages matters: the largest difference between orders, against chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, factorial, log
from statistics import fmean
from typing import Literal

from pydantic import Field

from pqd_core.host.analysis.changes import Change, Estimate, change, compare, on_scale
from pqd_core.host.analysis.statistics import CONFIDENCE, Interval, corrected, seed_noise, shuffled_orders, smallest_p
from pqd_core.host.rows import Part, Pipeline, Place, Row, compared

Answer = Literal["matters", "no-difference", "cannot-tell"]
RISK = 1 - CONFIDENCE
CORRECTION = "Benjamini-Hochberg"
Rows = Mapping[int, Row]


class OrderTest(Part):
    """One metric over all orders of the same stages in one runtime."""

    stages: Pipeline = Field(description="The stages, in one of their orders.")
    runtime: str = Field(description="Where the files run.")
    metric: str = Field(description="The metric.")
    orders: int = Field(description="Orders that were compared.")
    seeds: int = Field(description="Seeds that all of these orders have.")
    best: Pipeline = Field(description="The order with the best mean.")
    worst: Pipeline = Field(description="The order with the worst mean.")
    largest: Estimate = Field(
        description="The change from the order with the lowest mean to the one with the highest. As the largest of "
        "many it is larger than that of two orders chosen beforehand, and so is its interval; `p` allows for that."
    )
    seed_noise: float | None = Field(
        description="What the largest difference (or ratio) stays below in 95 % of cases if only seeds make it: "
        "Tukey's honestly significant difference, scipy.stats.studentized_range. Null with one seed."
    )
    p: float | None = Field(
        description="Share of shuffles of the orders within each seed that give a difference as large: "
        "scipy.stats.permutation_test on the largest difference between the orders' means. Null with one seed."
    )
    smallest_p: float = Field(description="The smallest `p` that this many orders and seeds can give.")
    seeds_needed: int = Field(description="Seeds from which on this many orders can be told apart at all.")
    p_corrected: float | None = Field(
        None,
        description="`p` corrected for the study's other tests of the metric, which would find something by chance: "
        "scipy.stats.false_discovery_control. Null where too few seeds allow no p <= 0.05, where all numbers are the "
        "same, and in reports of version 2.",
    )
    tests: int | None = Field(
        None, description="Tests that it is corrected for: those of the metric that could have found anything."
    )
    correction: str | None = Field(None, description="The method of the correction.")
    answer: Answer = Field(
        "cannot-tell",
        description="`matters`: p_corrected <= 0.05, and more than seed noise. `no-difference`: neither. "
        "`cannot-tell`: too few seeds for any p <= 0.05, or only one of the two.",
    )

    @property
    def interval(self) -> Interval | None:
        """The largest difference's 95 % interval, which allows for its being the largest; None with one seed."""
        if self.seed_noise is None:
            return None
        size, noise = self.largest.value, self.seed_noise
        return (size / noise, size * noise) if self.largest.kind == "ratio" else (size - noise, size + noise)


def compare_orders(places: Mapping[Place, Rows]) -> list[OrderTest]:
    """A test for each set of stages that has several orders, each runtime and each metric; the longest sets first."""
    groups: dict[tuple[tuple[str, ...], str], list[Pipeline]] = {}
    for pipeline, runtime in places:
        groups.setdefault((tuple(sorted(pipeline)), runtime), []).append(pipeline)
    several = [(runtime, orders) for (_, runtime), orders in groups.items() if len(orders) > 1]
    several.sort(key=lambda group: -len(group[1][0]))
    metrics = compared(row for seeds in places.values() for row in seeds.values())
    return judged(
        [
            test
            for runtime, orders in several
            for metric in metrics
            for test in _test({order: places[order, runtime] for order in orders}, runtime, metric)
        ]
    )


def judged(tests: Sequence[OrderTest]) -> list[OrderTest]:
    """Each test with its corrected p and its answer, which only all of them together can give.

    Where no shuffle could give any p <= 0.05, as of too few seeds or of numbers that are all the same, nothing could be
    found by chance either, so that nothing has to be corrected for such tests (Tarone 1990, Gilbert 2005). Each metric
    is corrected for its own tests: among all of them sizes, which differ surely and by next to nothing, would pay for
    wrong sentences about accuracy.
    """
    able = [test for test in tests if test.smallest_p <= RISK]
    families: dict[str, list[OrderTest]] = {}
    for test in filter(_differ, able):
        families.setdefault(test.metric, []).append(test)
    found = {
        id(test): (p, len(family))
        for family in families.values()
        for test, p in zip(family, corrected([test.p or 0.0 for test in family]), strict=True)
    }
    return [_answered(test, *found.get(id(test), (None, 0))) if test in able else test for test in tests]


def _differ(test: OrderTest) -> bool:
    """Any number of any order differs from another one of its seed."""
    same = 1.0 if test.largest.kind == "ratio" else 0.0
    return (test.largest.value, test.seed_noise) != (same, same)


def _answered(test: OrderTest, p: float | None, tests: int) -> OrderTest:
    if p is None:
        return test.model_copy(update={"answer": "no-difference"})
    seen = p <= RISK, test.largest.value > (test.seed_noise or 0.0)
    answer: Answer = "matters" if all(seen) else "cannot-tell" if any(seen) else "no-difference"
    return test.model_copy(update={"p_corrected": p, "tests": tests, "correction": CORRECTION, "answer": answer})


def _test(orders: Mapping[Pipeline, Rows], runtime: str, metric: str) -> Iterator[OrderTest]:
    """The test, not yet answered, if at least one seed has a number to compare in every order."""
    amounts = _amounts(orders, metric)
    if not amounts:
        return
    table, seeds, several = list(amounts.values()), len(amounts), len(amounts) > 1
    means = dict(zip(orders, map(fmean, zip(*table, strict=True)), strict=True))
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    complete = {order: {seed: orders[order][seed] for seed in amounts} for order in (low, high)}
    higher = next(iter(complete[low].values())).metrics[metric].better == "higher"
    largest = compare(complete[low], complete[high], metric)
    assert largest is not None, "every order has a number of these seeds"
    yield OrderTest(
        stages=next(iter(orders)),
        runtime=runtime,
        metric=metric,
        orders=len(orders),
        seeds=seeds,
        best=high if higher else low,
        worst=low if higher else high,
        largest=largest,
        seed_noise=on_scale(seed_noise(table), largest.kind) if several else None,
        p=shuffled_orders(table) if several else None,
        smallest_p=smallest_p(len(orders), seeds),
        seeds_needed=1 + ceil(log(1 / RISK) / log(factorial(len(orders)))),
    )


def _amounts(orders: Mapping[Pipeline, Rows], metric: str) -> dict[int, list[float]]:
    """For each seed that can be compared in every order: the change from its first order to each, on the scale on which
    changes add up. Means of these are what the orders are ranked by, and what is shuffled."""
    first = next(iter(orders.values()))
    found = {seed: [_change(first[seed], rows.get(seed), metric) for rows in orders.values()] for seed in first}
    return {seed: [c.amount for c in row if c] for seed, row in found.items() if all(row)}


def _change(before: Row, after: Row | None, metric: str) -> Change | None:
    return change(before.metrics.get(metric), after.metrics.get(metric)) if after else None
