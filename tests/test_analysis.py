"""What rows say over seeds, orders and stages, on studies whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from studies import STAGES, full, study

from pqd_core import Report
from pqd_core.host.analysis import analyse
from pqd_core.host.analysis.changes import Estimate, change, estimate
from pqd_core.host.analysis.effects import Effect
from pqd_core.host.analysis.statistics import bootstrap_interval, seed_noise, shuffled_orders, student_interval
from pqd_core.host.analysis.summaries import Summary
from pqd_core.host.rows import Metric, Pipeline


@pytest.fixture(scope="module")
def late() -> Report:
    """A study in which pruning costs more the later it comes."""
    return study()


@pytest.fixture(scope="module")
def even() -> Report:
    """A study in which order makes no difference."""
    return study(late={})


def summary(report: Report, pipeline: Pipeline, runtime: str = "onnxruntime") -> Summary:
    (found,) = [s for s in report.analysis.summaries if (s.pipeline, s.runtime) == (pipeline, runtime)]
    return found


def effect(report: Report, stage: str, metric: str, **place: Any) -> Effect:
    (found,) = [
        e
        for e in report.analysis.effects
        if (e.stage, e.metric, e.runtime) == (stage, metric, "onnxruntime")
        and all(getattr(e, key) == value for key, value in place.items())
    ]
    return found


# --- statistics


def test_one_value_has_no_interval_two_have_students_three_have_both() -> None:
    assert (bootstrap_interval((1.0,)), student_interval((1.0,))) == (None, None)
    assert bootstrap_interval((1.0, 2.0)) is None
    assert student_interval((1.0, 2.0)) == pytest.approx((-4.853, 7.853), abs=1e-3)
    assert bootstrap_interval((1.0, 2.0, 3.0)) == pytest.approx((1.0, 3.0))
    assert student_interval((1.0, 2.0, 3.0)) == pytest.approx((-0.484, 4.484), abs=1e-3)


def test_seeds_that_agree_to_the_last_digit_have_an_interval_without_width() -> None:
    assert student_interval((0.25, 0.25, 0.25)) == pytest.approx((0.25, 0.25))


def test_orders_that_differ_in_every_seed_alike_are_no_chance() -> None:
    table = [[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4]]
    assert shuffled_orders(table) < 0.01
    assert seed_noise(table) == pytest.approx(0)


def test_orders_that_differ_in_each_seed_otherwise_are_chance() -> None:
    table = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.3, 0.1, 0.4, 0.2]]
    assert shuffled_orders(table) > 0.5
    assert seed_noise(table) > 0.2


def test_orders_without_any_difference_have_p_1() -> None:
    assert shuffled_orders([[5.0, 5.0], [6.0, 6.0], [7.0, 7.0]]) == 1


# --- changes


def metric(value: float | None, unit: str = "1", spread: float | None = None) -> Metric:
    return Metric(value=value, unit=unit, better="lower", spread=spread)


def test_shares_change_by_differences_and_all_else_by_ratios() -> None:
    points, times = change(metric(0.5), metric(0.4)), change(metric(8.0, "ms"), metric(2.0, "ms"))
    assert points is not None
    assert times is not None
    assert (points.kind, points.amount) == ("difference", pytest.approx(-0.1))
    found = estimate({0: times})
    assert found is not None
    assert (found.kind, found.value) == ("ratio", pytest.approx(0.25))
    assert found.text == "0.25x"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, metric(1.0)),
        (metric(1.0), metric(None)),
        (metric(0.0, "ms"), metric(1.0, "ms")),
        (metric(1, "ms"), metric(0, "ms")),
    ],
)
def test_where_there_is_nothing_to_compare_there_is_no_change(before: Metric | None, after: Metric | None) -> None:
    assert change(before, after) is None


def test_with_one_seed_the_measurements_own_intervals_are_the_noise() -> None:
    def beyond(spread: float) -> bool:
        found = change(metric(0.5, spread=spread), metric(0.6, spread=spread))
        assert found is not None
        one = estimate({0: found})
        assert one is not None
        assert one.low is one.student_low is None
        return one.beyond_noise

    assert beyond(0.05)
    assert not beyond(0.08)


def test_two_seeds_that_disagree_wildly_still_have_an_interval() -> None:
    found = [change(metric(1.0, "ms"), metric(value, "ms")) for value in (1e-9, 1e9)]
    one = estimate({seed: c for seed, c in enumerate(found) if c})
    assert one is not None
    assert Estimate.model_validate_json(one.model_dump_json()) == one


# --- summaries


def test_a_pipeline_has_its_mean_its_spread_and_its_paired_differences(late: Report) -> None:
    rows = [r for r in late.rows if r.runtime == "onnxruntime"]
    by_seed = {s: {r.pipeline: r.value("accuracy") or 0.0 for r in rows if r.seed == s} for s in (0, 1, 2)}
    cell = summary(late, ("magnitude",)).cells["accuracy"]
    numbers = [accuracies["magnitude",] for accuracies in by_seed.values()]
    assert cell.mean == pytest.approx(sum(numbers) / 3)
    assert cell.spread == pytest.approx((sum((x - sum(numbers) / 3) ** 2 for x in numbers) / 2) ** 0.5)
    assert cell.n == 3
    assert cell.against_dense is not None
    assert cell.against_written is not None
    paired = [accuracies["magnitude",] - accuracies[()] for accuracies in by_seed.values()]
    assert cell.against_dense.value == pytest.approx(sum(paired) / 3)
    assert cell.against_dense.low == pytest.approx(min(paired), abs=1e-9)
    written = [accuracies["magnitude",] - accuracies[STAGES] for accuracies in by_seed.values()]
    assert cell.against_written.value == pytest.approx(sum(written) / 3)


def test_the_written_order_is_the_specs_and_is_not_compared_with_itself(late: Report) -> None:
    assert late.analysis.written == STAGES
    assert summary(late, STAGES).cells["accuracy"].against_written is None
    assert summary(late, ()).cells["accuracy"].against_dense is None


def test_a_written_order_that_was_not_run_gives_way_to_the_first_of_the_longest(late: Report) -> None:
    spec = {"stages": [{"use": "a:x"}, {"use": "a:y"}]}
    assert analyse(late.rows, spec).written == STAGES


def test_a_stage_that_stands_twice_is_found_by_its_place(late: Report) -> None:
    rows = [late.rows[0].model_copy(update={"pipeline": p}) for p in (("x@2", "x@1"), ("x@1", "x@2"))]
    assert analyse(rows, {"stages": [{"use": "a:x"}, {"use": "a:x"}]}).written == ("x@1", "x@2")


def test_a_seed_that_lacks_a_number_is_left_out_and_counted(late: Report) -> None:
    rows = [row.model_copy(deep=True) for row in late.rows]
    gone = next(row for row in rows if row.pipeline == ("magnitude",) and row.seed == 1)
    gone.metrics["accuracy"].value, gone.metrics["accuracy"].missing = None, "it broke"
    cell = analyse(rows, late.spec).summaries[2].cells["accuracy"]
    assert (cell.n, cell.missing) == (2, "it broke")
    assert cell.against_dense is not None
    assert cell.against_dense.n == 2


# --- orders


def test_an_order_that_matters_is_seen_with_three_seeds(late: Report) -> None:
    test = next(t for t in late.analysis.orders if t.metric == "accuracy" and t.runtime == "onnxruntime")
    assert (test.orders, test.seeds, test.answer) == (6, 3, "matters")
    assert test.best[0] == "magnitude"
    assert test.worst[-1] == "magnitude"
    assert test.p is not None
    assert test.p < 0.05
    assert test.seed_noise is not None
    assert test.seed_noise < test.largest.value
    assert late.verdicts[0].startswith(
        "order of int8-qat, logit-kd and magnitude changed accuracy (6 orders, 3 seeds; 2 of 2 tests find that order "
        "matters; p corrected for 2 tests by Benjamini-Hochberg) by up to 3.91 points (95 % interval 2.28 to 5.55 "
        "points), more than seeds did (1.64 points, p = 0.019, uncorrected 0.019)"
    )


def test_an_order_that_makes_no_difference_is_told_to_make_none(even: Report) -> None:
    assert even.verdicts[0].startswith(
        "no difference in accuracy between orders of int8-qat, logit-kd and magnitude beyond seed noise (6 orders, 3 "
        "seeds; p corrected for 2 tests by Benjamini-Hochberg)"
    )
    assert not any(test.answer == "matters" for test in even.analysis.orders if test.metric == "accuracy")


def test_one_seed_cannot_tell() -> None:
    found = study((0,))
    assert found.verdicts[0].startswith(
        "one seed cannot tell whether the order of int8-qat, logit-kd and magnitude matters: accuracy differs by up to"
    )
    assert {test.answer for test in found.analysis.orders} == {"cannot-tell"}
    assert all(test.p is None for test in found.analysis.orders)


def test_few_seeds_of_two_orders_cannot_tell_and_say_how_many_could() -> None:
    pair = [(), ("magnitude",), ("int8-qat",), ("magnitude", "int8-qat"), ("int8-qat", "magnitude")]
    found = study(pipelines=pair)
    assert found.verdicts[0].startswith(
        "3 seeds cannot tell 2 orders of int8-qat and magnitude apart, no fewer than 6 could: accuracy differs by up to"
    )
    assert (
        study(range(7), pipelines=pair)
        .verdicts[0]
        .startswith("order of int8-qat and magnitude changed accuracy (2 orders, 7 seeds")
    )


def test_a_difference_that_only_one_of_the_two_tests_sees_is_left_open() -> None:
    assert (
        study((0, 1))
        .verdicts[0]
        .startswith(
            "2 seeds leave open whether the order of int8-qat, logit-kd and magnitude matters for accuracy: up to"
        )
    )


def test_a_run_of_one_order_says_nothing_of_orders() -> None:
    found = study(pipelines=[(), ("magnitude",), ("magnitude", "int8-qat")])
    assert found.analysis.orders == []
    assert "order" not in " ".join(found.verdicts)


# --- stages


def test_a_stage_has_its_effect_by_position_and_by_company(late: Report) -> None:
    first, last = (effect(late, "magnitude", "accuracy", position=n) for n in (1, 3))
    assert (first.edges, last.edges) == (1, 2)
    assert first.change.value == pytest.approx(-0.004, abs=0.004)
    assert last.change.value == pytest.approx(-0.044, abs=0.004)
    assert last.change.beyond_noise
    alone = effect(late, "magnitude", "accuracy", after=())
    assert alone.change == first.change
    both = [
        e for e in late.analysis.effects if e.stage == "magnitude" and set(e.after or ()) == {"int8-qat", "logit-kd"}
    ]
    assert {e.edges for e in both} == {2}
    assert effect(late, "int8-qat", "size_bytes", position=2).change.value == pytest.approx(0.27, abs=0.001)


def test_stages_are_summed_up_over_all_their_places(late: Report) -> None:
    told = "\n".join(late.verdicts)
    assert "magnitude made accuracy worse, -2.69 points on average over 5 places (-4.32 points to -0.32 points)" in told
    dense = (
        "magnitude left latency where it was, 1.00x on average over 5 places on onnxruntime and openvino: the runtime"
    )
    assert dense in told
    assert len(late.verdicts) < 8, "of 32 pipelines in runtimes"


# --- the frontier


def test_what_another_pipeline_beats_in_everything_is_dominated(late: Report) -> None:
    standing = summary(late, ("int8-qat", "logit-kd", "magnitude")).standing
    assert standing is not None
    assert standing.status == "dominated"
    assert standing.by is not None
    assert standing.axes == ["accuracy", "size_bytes", "latency_ms"]
    best = summary(late, ("int8-qat", "logit-kd")).standing
    assert best is not None
    assert (best.status, best.by) == ("frontier", None)


def test_a_difference_within_the_noise_is_no_domination(late: Report) -> None:
    rows = [
        r.model_copy(deep=True) for r in late.rows if r.pipeline in ((), ("magnitude",)) and r.runtime == "openvino"
    ]
    for row in rows:
        for name, plus in (("accuracy", [0.001, 0.05, -0.04][row.seed]), ("size_bytes", 0), ("latency_ms", 0)):
            dense = next(r for r in late.rows if not r.pipeline and r.seed == row.seed and r.runtime == "openvino")
            row.metrics[name].value = (dense.value(name) or 0) + (plus if row.pipeline else 0)
    dense, pruned = analyse(rows, {}).summaries
    assert dense.standing is not None
    assert pruned.standing is not None
    assert (dense.standing.status, dense.standing.by) == ("tied", ("magnitude",))
    assert pruned.standing.status == "frontier"


# --- goals

GOAL = {"metric": "latency", "max_accuracy_drop": 0.01, "runtime": None}


def goals(report: Report, *asked: Mapping[str, Any]) -> list[Any]:
    return analyse(report.rows, {**report.spec, "goals": list(asked)}).goals


def test_a_goal_is_won_by_the_best_that_keeps_its_accuracy(late: Report) -> None:
    here, there = goals(late, GOAL)
    assert (here.runtime, there.runtime) == ("onnxruntime", "openvino")
    assert here.metric == "latency_ms"
    assert here.judged_on == "accuracy_validation"
    assert here.winner.pipeline == ("int8-qat", "logit-kd")
    misses = {c.pipeline: c.missed_by for c in here.candidates if c.missed_by is not None}
    assert misses["logit-kd", "int8-qat", "magnitude"] == pytest.approx(0.0330, abs=1e-4)
    assert ("magnitude",) not in misses
    assert late.best("latency", 0.01).pipeline == here.winner.pipeline


def test_a_goal_may_name_its_runtime_and_allow_any_loss(late: Report) -> None:
    (found,) = goals(late, {"metric": "size_bytes", "max_accuracy_drop": None, "runtime": "openvino"})
    assert found.runtime == "openvino"
    assert all(candidate.met for candidate in found.candidates)


def test_a_goal_that_none_meets_names_the_nearest() -> None:
    told = study(pipelines=full(STAGES[:2])[1:], goals=[GOAL]).verdicts
    assert (
        "goal, the best latency with at most 1.00 points of accuracy lost on the images held out: no pipeline"
        in told[1]
    )
    assert told[1].endswith("meets it, as numbers are missing"), "there is no dense network to compare with"
    strict = study(pipelines=full(STAGES[:2]), goals=[{**GOAL, "max_accuracy_drop": -0.5}]).verdicts
    assert any(
        "no pipeline meets it; dense baseline on onnxruntime comes nearest, 50.00 points off" in v for v in strict
    )


def test_goals_are_told_in_a_sentence_each() -> None:
    told = [v for v in study(goals=[GOAL]).verdicts if v.startswith("goal, ")]
    assert len(told) == 1
    assert (
        "int8-qat -> logit-kd wins with 0.170 ms (within the noise of the runner-up logit-kd -> int8-qat, 0.170 ms, "
        "and of 3 more), +0.07 points (within the noise of 3 seeds) on onnxruntime;"
    ) in told[0]
    assert "12 of 32 miss it, logit-kd -> int8-qat -> magnitude on onnxruntime by most, 3.30 points" in told[0]


# --- the table


def test_the_table_has_one_line_for_all_seeds_of_a_pipeline_in_a_runtime(late: Report) -> None:
    lines = late.table().splitlines()
    assert len(lines) == 2 + 32
    assert sum("89.72 % ± 0.40 (-0.32)" in line for line in lines) == 2
    assert "± 0 " not in late.table()
