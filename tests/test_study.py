from __future__ import annotations

import random
import time
from itertools import permutations
from math import perm
from typing import Any

import pytest
from bench import Bench
from light import stage_record

from pqd_core.host.errors import PlanError, SpecError
from pqd_core.legal import why_illegal
from pqd_core.plan import Plan, build_plan
from pqd_core.records import FactDef
from pqd_core.study import Arrangements, count

CUT = FactDef("cut", "it was cut", lambda model, evidence: [])
THREE = ["nudge", "toy-tune", {"use": "nudge", "by": 0.5}]


@pytest.fixture
def ordered(bench: Bench) -> Bench:
    """A bench with stages that depend on each other: `trace` ends what `cut` needs, `polish` needs a cut."""
    bench.host.add("given", stage_record("cut", needs=("trainable", "plain-modules"), gives=(CUT,)))
    bench.host.add("given", stage_record("trace", ends=("plain-modules",)))
    bench.host.add("given", stage_record("polish", needs=("cut",)))
    return bench


def planned(bench: Bench, study: str, *stages: Any, **changes: Any) -> Plan:
    return build_plan(bench.spec(stages=list(stages), study=study, **changes), bench.host)


def asked(plan: Plan) -> list[str]:
    return [plan.step(key).label for key in plan.pipelines]


# --- which pipelines


def test_as_written_is_one_pipeline(bench: Bench) -> None:
    assert asked(planned(bench, "as-written", "nudge", "toy-tune")) == ["nudge+toy-tune"]


def test_orders_are_all_permutations_the_written_one_first(bench: Bench) -> None:
    found = asked(planned(bench, "orders", "nudge", "toy-tune", "bulky"))
    assert found[0] == "nudge+toy-tune+bulky"
    assert len(set(found)) == 6
    assert all(sorted(label.split("+")) == ["bulky", "nudge", "toy-tune"] for label in found)


def test_subsets_are_each_alone_each_pair_and_all_in_the_written_order(bench: Bench) -> None:
    assert asked(planned(bench, "subsets", "nudge", "toy-tune", "bulky")) == [
        "nudge",
        "toy-tune",
        "bulky",
        "nudge+toy-tune",
        "nudge+bulky",
        "toy-tune+bulky",
        "nudge+toy-tune+bulky",
    ]


def test_full_is_every_order_of_every_subset_each_step_once(bench: Bench) -> None:
    plan = planned(bench, "full", "nudge", "toy-tune", "bulky", budget={"epochs": 100, "split": [20, 40, 40]})
    assert len(set(asked(plan))) == len(plan.pipelines) == 15
    assert (plan.shared.stage_runs, plan.shared.epochs) == (15, 500)
    assert (plan.alone.stage_runs, plan.alone.epochs) == (33, 1100)


def test_four_stages_are_64_pipelines_and_pass(bench: Bench) -> None:
    four = [{"use": "nudge", "by": by} for by in (0.1, 0.2, 0.3, 0.4)]
    assert len(planned(bench, "full", *four).pipelines) == 64


@pytest.mark.parametrize("study", ["as-written", "auto", "orders", "subsets", "full"])
def test_no_stages_are_the_baseline_whatever_the_study(bench: Bench, study: str) -> None:
    assert asked(planned(bench, study)) == ["baseline"]


# --- pipelines by name


def test_named_pipelines_run_alternatives_of_one_place_from_one_baseline(bench: Bench) -> None:
    named = [["nudge@1", "toy-tune"], ["nudge@3", "toy-tune"], ["nudge@1", "toy-tune"]]
    plan = planned(bench, "as-written", *THREE, pipelines=named)
    assert asked(plan) == ["nudge@1+toy-tune", "nudge@3+toy-tune"]
    assert plan.steps[0].label == "baseline"
    assert plan.shared.stage_runs == 4
    assert plan.spec.title.endswith("3-pipelines")


def test_named_pipelines_have_the_keys_that_they_have_alone(bench: Bench) -> None:
    stages = [{"use": "nudge", "by": 0.5, "epochs": 1}, {"use": "toy-tune", "epochs": 2}]
    alone = planned(bench, "as-written", *stages)
    named = planned(bench, "as-written", "bulky", *stages, pipelines=[["nudge", "toy-tune"]])
    assert named.pipelines == alone.pipelines


def test_every_mistake_in_named_pipelines_is_told_at_once(ordered: Bench) -> None:
    with pytest.raises(PlanError) as error:
        planned(ordered, "as-written", "cut", "trace", pipelines=[["cutt"], ["trace", "cut"], ["cut"]])
    assert str(error.value).splitlines() == [
        "pipelines.0.0: no stage is 'cutt'; did you mean cut?",
        "pipelines.1: step 2, cut, needs a model that is plain-modules, which step 1, trace, ended; "
        "name the stages in another order, or leave one out",
    ]


def test_a_stage_that_a_pipeline_names_twice_is_refused(bench: Bench) -> None:
    with pytest.raises(PlanError, match=r"pipelines\.0: names nudge twice; write the stage twice under stages"):
        planned(bench, "as-written", "nudge", "toy-tune", pipelines=[["nudge", "toy-tune", "nudge"]])


def test_a_stage_that_no_pipeline_names_is_told(bench: Bench) -> None:
    plan = planned(bench, "as-written", "nudge", "toy-tune", pipelines=[["toy-tune"]])
    assert plan.notes == ("no pipeline names nudge, which keeps its share of the budget",)


def test_more_named_pipelines_than_the_limit_are_refused(bench: Bench) -> None:
    with pytest.raises(PlanError, match=r"pipelines: names 2, more than max_pipelines \(1\)"):
        planned(bench, "as-written", "nudge", "toy-tune", pipelines=[["nudge"], ["toy-tune"]], max_pipelines=1)


def test_one_list_of_names_is_no_list_of_pipelines(bench: Bench) -> None:
    with pytest.raises(SpecError, match=r"is a list of pipelines, each a list of names; write \[\[nudge, toy-tune\]\]"):
        planned(bench, "as-written", *THREE, pipelines=["nudge", "toy-tune"])


def test_a_study_and_named_pipelines_contradict_each_other(bench: Bench) -> None:
    with pytest.raises(PlanError, match="study: full means others; leave one of the two out"):
        planned(bench, "full", *THREE, pipelines=[["toy-tune"]])


# --- more than the cap


@pytest.mark.parametrize("study", ["orders", "full"])
def test_twelve_stages_are_refused_at_once_with_their_number(bench: Bench, study: str) -> None:
    twelve = [{"use": "nudge", "by": by / 20} for by in range(12)]
    pipelines = perm(12) if study == "orders" else sum(perm(12, n) for n in range(1, 13))
    began = time.perf_counter()
    with pytest.raises(PlanError, match=f"is {pipelines:,} pipelines, and max_pipelines 64; leave stages out") as error:
        planned(bench, study, *twelve)
    assert error.value.exit_code == 2
    assert time.perf_counter() - began < 5


def test_a_cap_is_told_with_studies_that_would_fit(bench: Bench) -> None:
    with pytest.raises(PlanError) as error:
        planned(bench, "full", *THREE, max_pipelines=7)
    assert str(error.value) == (
        "study: full of 3 stages is 15 pipelines, and max_pipelines 7; leave stages out, or write max_pipelines: 15, "
        "or study: orders (6 pipelines), or study: subsets (7 pipelines)"
    )


@pytest.mark.parametrize("study", ["orders", "full"])
@pytest.mark.parametrize("draw", range(8))
def test_what_is_counted_is_what_trying_all_of_them_finds(bench: Bench, study: str, draw: int) -> None:
    stages = _random_stages(bench, random.Random(draw))
    spec = bench.spec(stages=stages, study=study)
    sizes = range(1, 6) if study == "full" else [5]
    tried = [[spec.stages[i] for i in order] for n in sizes for order in permutations(range(5), n)]
    legal = [tuple(s.name for s in order) for order in tried if not why_illegal(order)]
    outlook = count(spec, study)
    assert (outlook.legal, outlook.legal + outlook.refused.total()) == (len(legal), len(tried))
    made = [tuple(spec.stages[i].name for i in pipeline) for pipeline in Arrangements(spec, study)]
    assert sorted(made) == sorted(legal)


def _random_stages(bench: Bench, chance: random.Random) -> list[str]:
    """Five stages that need, give and end facts at random."""
    words = ["trainable", "plain-modules", "a", "b"]
    for n in range(5):
        needs, ends = (tuple(chance.sample(words, chance.choice([0, 0, 1, 2]))) for _ in range(2))
        gives = tuple(fact for fact in ("a", "b") if chance.random() < 0.4)
        bench.host.add("given", stage_record(f"s{n}", needs=needs, ends=ends, gives=gives))
    return [f"s{n}" for n in range(5)]


# --- illegal orders


def test_auto_takes_the_nearest_legal_order_and_says_what_it_changed_and_why(ordered: Bench) -> None:
    plan = planned(ordered, "auto", "trace", "cut", "polish", budget={"epochs": 6, "split": [1, 2, 3]})
    assert asked(plan) == ["cut+trace+polish"]
    assert [step.epochs for step in plan.steps] == [0, 2, 1, 3], "a share goes with its stage"
    assert plan.notes == (
        "auto runs cut -> trace -> polish in place of trace -> cut -> polish: "
        "step 2, cut, needs a model that is plain-modules, which step 1, trace, ended",
    )


def test_auto_leaves_a_legal_order_as_it_is_and_says_nothing(ordered: Bench) -> None:
    plan = planned(ordered, "auto", "nudge", "cut", "trace")
    assert (asked(plan), plan.notes) == (["nudge+cut+trace"], ())


@pytest.mark.parametrize("study", ["auto", "orders", "subsets", "full"])
def test_stages_that_no_order_makes_legal_are_refused(ordered: Bench, study: str) -> None:
    with pytest.raises(PlanError, match=r"step 1, polish, needs a model that is cut.*leave one out"):
        planned(ordered, study, "polish")


def test_illegal_orders_are_left_out_and_counted_with_the_reason(ordered: Bench) -> None:
    plan = planned(ordered, "full", "cut", "trace", "polish")
    assert asked(plan) == ["cut", "cut+trace", "cut+trace+polish", "cut+polish", "cut+polish+trace", "trace"]
    assert plan.notes == (
        "9 of 15 pipelines are left out, as they cannot run: polish needs a model that is cut, which nothing before it "
        "gives (7); cut needs a model that is plain-modules, which trace ends (2)",
    )


def test_illegal_subsets_are_left_out_and_counted(ordered: Bench) -> None:
    plan = planned(ordered, "subsets", "cut", "trace", "polish")
    assert asked(plan) == ["cut", "trace", "cut+trace", "cut+polish", "cut+trace+polish"]
    assert plan.notes[0].startswith("2 of 7 pipelines are left out")


def test_many_stages_of_which_few_orders_are_legal_are_found_without_trying_all(ordered: Bench) -> None:
    links = [FactDef(f"link{n}", "a link", lambda model, evidence: []) for n in range(12)]
    for n, link in enumerate(links):
        needs = (links[n - 1].name,) if n else ("trainable",)
        ordered.host.add("given", stage_record(f"chain{n}", needs=needs, gives=(link,)))
    plan = planned(ordered, "orders", *(f"chain{n}" for n in reversed(range(12))))
    assert asked(plan) == ["+".join(f"chain{n}" for n in range(12))]
    assert plan.notes[0].startswith(f"{perm(12) - 1:,} of {perm(12):,} pipelines are left out")


# --- stages that appear twice


def test_equal_stages_make_equal_pipelines_once(bench: Bench) -> None:
    twice = [{"use": "nudge", "epochs": 2}, "toy-tune", {"use": "nudge", "epochs": 2}]
    assert asked(planned(bench, "orders", *twice)) == [
        "nudge+toy-tune+nudge",
        "nudge+nudge+toy-tune",
        "toy-tune+nudge+nudge",
    ]
    assert asked(planned(bench, "subsets", *twice)) == [
        "nudge",
        "toy-tune",
        "nudge+toy-tune",
        "nudge+nudge",
        "toy-tune+nudge",
        "nudge+toy-tune+nudge",
    ]
    assert planned(bench, "full", *twice).notes == ()


def test_stages_of_one_name_that_differ_are_told_apart_by_where_they_are_written(bench: Bench) -> None:
    found = asked(planned(bench, "full", *THREE))
    assert len(set(found)) == 15
    assert {"nudge@1", "nudge@3", "toy-tune+nudge@3+nudge@1"} <= set(found)


def test_stages_that_differ_in_their_share_only_are_equal_when_shares_belong_to_positions(bench: Bench) -> None:
    budget = {"epochs": 6, "split": [1, 2, 3]}
    by_stage = planned(bench, "orders", "nudge", "toy-tune", "nudge", budget=budget)
    by_position = planned(bench, "orders", "nudge", "toy-tune", "nudge", budget={**budget, "by": "position"})
    assert (len(by_stage.pipelines), len(by_position.pipelines)) == (6, 3)
    assert "nudge@3" in by_stage.steps[-1].label
    assert all("@" not in step.label for step in by_position.steps)


# --- budgets and seeds


def test_a_budget_by_position_stays_where_it_is_and_a_stages_own_epochs_go_with_it(bench: Bench) -> None:
    stages = ["nudge", "toy-tune", {"use": "bulky", "epochs": 7}]
    plan = planned(bench, "orders", *stages, budget={"epochs": 10, "split": [1, 4, 5], "by": "position"})
    epochs = {step.label: [s.epochs for s in plan.path_to(step)][1:] for step in plan.steps}
    assert epochs["nudge+toy-tune+bulky"] == [1, 4, 7]
    assert epochs["toy-tune+nudge+bulky"] == [1, 4, 7]
    assert epochs["bulky+toy-tune+nudge"] == [7, 4, 5]


def test_each_seed_has_a_tree_of_its_own_with_the_keys_it_has_alone(bench: Bench) -> None:
    plan = planned(bench, "full", *THREE, seeds=[0, 1, 5])
    alone = [planned(bench, "full", *THREE, seed=seed) for seed in (0, 1, 5)]
    assert [step.key for step in plan.steps] == [step.key for one in alone for step in one.steps]
    assert plan.pipelines == tuple(key for one in alone for key in one.pipelines)
    assert [step.label for step in plan.tree(1)] == [step.label for step in plan.tree(5)]
    assert {step.seed for step in plan.tree(5)} == {5}
