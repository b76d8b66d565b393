"""Whether the order of the same stages matters: the largest difference between orders, against chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, factorial, log
from statistics import fmean
from typing import Literal

from pydantic import Field

from pqd_core.host.analysis.changes import Estimate, change, compare, on_scale
from pqd_core.host.analysis.statistics import CONFIDENCE, seed_noise, shuffled_orders, smallest_p
from pqd_core.host.rows import Part, Pipeline, Place, Row, compared

Answer = Literal["matters", "no-difference", "cannot-tell"]
RISK = 1 - CONFIDENCE
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
    answer: Answer = Field(
        description="`matters`: p <= 0.05, and more than seed noise. `no-difference`: neither. "
        "`cannot-tell`: too few seeds for any p <= 0.05, or only one of the two."
    )


def compare_orders(places: Mapping[Place, Rows]) -> list[OrderTest]:
    """A test for each set of stages that has several orders, each runtime and each metric; the longest sets first."""
    groups: dict[tuple[tuple[str, ...], str], list[Pipeline]] = {}
    for pipeline, runtime in places:
        groups.setdefault((tuple(sorted(pipeline)), runtime), []).append(pipeline)
    several = [(runtime, orders) for (_, runtime), orders in groups.items() if len(orders) > 1]
    several.sort(key=lambda group: -len(group[1][0]))
    metrics = compared(row for seeds in places.values() for row in seeds.values())
    return [
        test
        for runtime, orders in several
        for metric in metrics
        for test in _test({order: places[order, runtime] for order in orders}, runtime, metric)
    ]


def _test(orders: Mapping[Pipeline, Rows], runtime: str, metric: str) -> Iterator[OrderTest]:
    """The test, if at least one seed has the number in every order."""
    seeds = [s for s in next(iter(orders.values())) if all(_has(rows, s, metric) for rows in orders.values())]
    if not seeds:
        return
    complete = {order: {seed: rows[seed] for seed in seeds} for order, rows in orders.items()}
    means = {order: fmean(row.value(metric) or 0.0 for row in rows.values()) for order, rows in complete.items()}
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    better = next(iter(complete[low].values())).metrics[metric].better
    best, worst = (high, low) if better == "higher" else (low, high)
    largest = compare(complete[low], complete[high], metric)
    if largest is None:
        return
    table, several = _table(complete, metric), len(seeds) > 1
    noise = on_scale(seed_noise(table), largest.kind) if several else None
    p, smallest = shuffled_orders(table) if several else None, smallest_p(len(orders), len(seeds))
    yield OrderTest(
        stages=next(iter(orders)),
        runtime=runtime,
        metric=metric,
        orders=len(orders),
        seeds=len(seeds),
        best=best,
        worst=worst,
        largest=largest,
        seed_noise=noise,
        p=p,
        smallest_p=smallest,
        seeds_needed=1 + ceil(log(1 / RISK) / log(factorial(len(orders)))),
        answer=_answer(p, smallest, largest.value, noise),
    )


def _has(rows: Rows, seed: int, metric: str) -> bool:
    return seed in rows and rows[seed].value(metric) is not None


def _table(orders: Mapping[Pipeline, Rows], metric: str) -> list[list[float]]:
    """A row for each seed and a column for each order: the change from the first order of the same seed."""
    first = next(iter(orders.values()))
    return [[_amount(first[seed], rows[seed], metric) for rows in orders.values()] for seed in first]


def _amount(before: Row, after: Row, metric: str) -> float:
    found = change(before.metrics[metric], after.metrics[metric])
    return found.amount if found else 0.0


def _answer(p: float | None, smallest: float, largest: float, noise: float | None) -> Answer:
    if p is None or noise is None or smallest > RISK or (p <= RISK) != (largest > noise):
        return "cannot-tell"
    return "matters" if p <= RISK else "no-difference"
