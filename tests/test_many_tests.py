"""What has to hold when many orders, metrics, runtimes and rivals are compared: no finding out of numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_verdicts import row

from pqd_core.host.analysis import Analysis, analyse
from pqd_core.host.analysis.changes import Change, average
from pqd_core.host.analysis.effects import Edge, complete, mean_of
from pqd_core.host.analysis.orders import OrderTest
from pqd_core.host.analysis.statistics import corrected
from pqd_core.host.rows import Row
from pqd_core.host.verdicts import make_verdicts

ORDERS = ("a+b+c", "a+c+b", "b+a+c", "b+c+a", "c+a+b", "c+b+a")
GOAL = {"metric": "latency", "max_accuracy_drop": 0.5, "runtime": None}


def analysed(rows: Sequence[Row], goals: Sequence[object] = ()) -> Analysis:
    return analyse(rows, {"stages": [{"use": "x:a"}, {"use": "x:b"}], "goals": list(goals)})


def by_metric(rows: Sequence[Row]) -> dict[str, OrderTest]:
    return {test.metric: test for test in analysed(rows).orders}


def noisy(seed: int, gain: float = 0.0) -> list[Row]:
    """Six orders, three seeds: noise alone, but for the first order's accuracy."""
    rng = np.random.default_rng(seed)
    return [
        row(order, s, accuracy=0.5 + rng.normal(0, 0.01) + gain * (order == "a+b+c"), latency_ms=9 + rng.normal(0, 0.1))
        for order in ORDERS
        for s in (0, 1, 2)
    ]


# --- several tests


def test_a_p_that_one_test_may_have_is_none_for_the_least_of_four() -> None:
    assert corrected([0.04, 0.5, 0.6, 0.9]) == pytest.approx([0.16, 0.8, 0.8, 0.9])
    assert corrected([0.04, 0.03]) == pytest.approx([0.04, 0.04])
    assert corrected([]) == []


def test_every_p_is_read_among_those_of_its_metric() -> None:
    elsewhere = [one.model_copy(update={"runtime": "elsewhere"}) for one in noisy(4)]
    tests = [test for test in analysed([*noisy(3, gain=0.05), *elsewhere]).orders if test.metric == "accuracy"]
    assert [test.tests for test in tests] == [2, 2]
    assert {test.correction for test in tests} == {"Benjamini-Hochberg"}
    assert [test.p_corrected for test in tests] == pytest.approx(corrected([test.p or 0.0 for test in tests]))
    assert [test.answer for test in tests] == ["matters", "no-difference"]


def test_a_metric_that_surely_differs_pays_for_no_other_one() -> None:
    alone, both = by_metric(noisy(5)), noisy(5)
    sizes = {order: 1000.0 * (i + 1) for i, order in enumerate(dict.fromkeys(one.pipeline for one in both))}
    sized = [
        one.model_copy(
            update={"metrics": {**one.metrics, **row("", 0, size_bytes=sizes[one.pipeline] + one.seed).metrics}}
        )
        for one in both
    ]
    assert by_metric(sized)["accuracy"].p_corrected == alone["accuracy"].p_corrected


def test_of_studies_of_nothing_few_find_anything() -> None:
    answers = [[t.answer for t in analysed(noisy(seed)).orders] for seed in range(30)]
    assert sum("matters" in found for found in answers) <= 4


def test_tests_that_could_find_nothing_make_no_other_test_stricter() -> None:
    rows = [row(order, s, accuracy=0.1 * s, size_bytes=7.0) for order in ("a+b", "b+a") for s in (0, 1, 2)]
    size = row("", 0, size_bytes=7.0).metrics
    whole = [one.model_copy(update={"metrics": {**one.metrics, **size}}) for one in noisy(3, 0.05)]
    tests = analysed([*whole, *rows]).orders
    told = {(len(test.stages), test.metric): (test.tests, test.answer) for test in tests}
    assert told[3, "accuracy"] == (1, "matters"), "of accuracy alone"
    assert told[3, "size_bytes"] == (None, "no-difference"), "all sizes are the same"
    assert told[2, "accuracy"] == (None, "cannot-tell"), "two orders need more seeds"


def test_three_bytes_that_differ_in_every_seed_are_no_finding_to_be_told() -> None:
    rows = [
        row(order, seed, accuracy=0.5, size_bytes=100_000.0 + 3 * i)
        for i, order in enumerate(ORDERS)
        for seed in (0, 1, 2)
    ]
    found = analysed(rows)
    assert next(t for t in found.orders if t.metric == "size_bytes").answer == "matters"
    assert not any("size" in v and "order" in v for v in make_verdicts(rows, found, {}))


# --- the largest difference


def test_orders_are_ranked_by_the_changes_that_are_tested() -> None:
    """By plain means `a -> b` is slower, by what it takes of the other order's time in each seed it is faster."""
    rows = [
        row(order, seed, latency_ms=value)
        for order, values in (("a+b", (5.0, 12.0)), ("b+a", (10.0, 6.5)))
        for seed, value in enumerate(values)
    ]
    (test,) = analysed(rows).orders
    assert (test.best, test.worst) == (("a", "b"), ("b", "a"))
    assert test.largest.value > 1


def test_the_interval_of_the_largest_is_as_wide_as_the_largest_of_many_needs() -> None:
    test = by_metric(noisy(3, gain=0.05))["accuracy"]
    assert test.interval is not None
    assert test.largest.low is not None
    assert test.largest.high is not None
    assert test.interval[1] - test.interval[0] > test.largest.high - test.largest.low
    assert sum(test.interval) / 2 == pytest.approx(test.largest.value)
    ratio = by_metric(noisy(3, gain=0.05))["latency_ms"]
    assert ratio.interval is not None
    assert ratio.interval[0] * ratio.interval[1] == pytest.approx(ratio.largest.value**2)


def test_a_seed_whose_number_cannot_be_divided_by_is_no_seed_without_a_change() -> None:
    rows = [row(o, s, latency_ms=0.0 if (o, s) == ("b+a", 1) else 2.0 + s) for o in ("a+b", "b+a") for s in (0, 1, 2)]
    (test,) = analysed(rows).orders
    assert test.seeds == 2


# --- stages


def edge(before: str, **seeds: float) -> Edge:
    changes = {int(name[1:]): Change("difference", amount, 0.01) for name, amount in seeds.items()}
    return Edge((before,), "s", "ort", "accuracy", changes)


def test_an_edge_that_lacks_seeds_does_not_change_what_a_seed_is_averaged_over() -> None:
    whole, partly = edge("a", s0=0.1, s1=0.1), edge("b", s0=0.5)
    assert complete([whole, partly]) == [whole]
    assert mean_of([whole, partly]).value == pytest.approx(0.1)
    assert mean_of([whole, partly]).beyond_noise, "the two seeds agree"


def test_measurements_that_err_together_are_no_surer_on_average() -> None:
    """Networks that are tested on the same images, with one seed."""
    several = [Change("difference", 0.02, 0.03) for _ in range(9)]
    assert average(several).noise == pytest.approx(0.03)


# --- goals


def test_a_winner_within_the_noise_of_the_runner_up_is_told_with_its_name() -> None:
    rows = [
        row(p, s, accuracy=0.9, latency_ms=latency + 0.1 * s * (1 if p == "a" else -1))
        for p, latency in (("", 9.0), ("a", 5.0), ("b", 5.05))
        for s in (0, 1, 2)
    ]
    (goal,) = analysed(rows, [GOAL]).goals
    assert goal.winner is not None
    assert goal.runner_up is not None
    assert goal.lead is not None
    assert not goal.lead.beyond_noise
    assert [one.pipeline for one in goal.as_good] == [goal.runner_up.pipeline]
    told = next(v for v in make_verdicts(rows, analysed(rows, [GOAL]), {}) if v.startswith("goal"))
    assert "b wins with 4.95 ms (within the noise of the runner-up a, 5.10 ms)" in told


def test_a_winner_beyond_noise_is_told_without() -> None:
    rows = [row(p, s, accuracy=0.9, latency_ms=v + 0.01 * s) for p, v in (("", 9.0), ("a", 5.0)) for s in (0, 1, 2)]
    (goal,) = analysed(rows, [GOAL]).goals
    assert goal.runner_up is not None
    assert goal.runner_up.pipeline == ()
    assert goal.as_good == []
    assert goal.lead is not None
    assert goal.lead.beyond_noise
    assert "runner-up" not in next(v for v in make_verdicts(rows, analysed(rows, [GOAL]), {}) if v.startswith("goal"))


def test_of_files_of_one_size_the_more_accurate_one_wins() -> None:
    rows = [row(p, 0, accuracy=a, size_bytes=10.0) for p, a in (("", 0.9), ("a", 0.8), ("b", 0.95))]
    (goal,) = analysed(rows, [{**GOAL, "metric": "size"}]).goals
    assert goal.winner is not None
    assert goal.winner.pipeline == ("b",)
    assert [one.pipeline for one in goal.as_good] == [(), ("a",)]
