from __future__ import annotations

import re
from itertools import permutations
from typing import Any

import pytest
from bench import Bench
from light import stage_record

from pqd_core import Problem
from pqd_core.host.errors import PlanError
from pqd_core.host.plugins import Host
from pqd_core.legal import nearest_legal_order
from pqd_core.plan import build_plan
from pqd_core.records import FactDef

CUT = FactDef("cut", "it was cut", lambda model, evidence: [])


@pytest.fixture
def ordered(bench: Bench) -> Bench:
    """A bench with stages that depend on each other: `trace` ends what `cut` needs, `polish` needs a cut."""
    bench.host.add("given", stage_record("cut", needs=("trainable", "plain-modules"), gives=(CUT,)))
    bench.host.add("given", stage_record("trace", ends=("plain-modules",)))
    bench.host.add("given", stage_record("polish", needs=("cut",)))
    bench.host.add("given", stage_record("bake", needs=(), keeps=("cut",)))
    return bench


def message(bench: Bench, *stages: str) -> str:
    with pytest.raises(PlanError) as error:
        build_plan(bench.spec(stages=list(stages)), bench.host)
    assert error.value.exit_code == 2
    return str(error.value)


# --- the tree


def test_a_plan_is_the_baseline_and_then_each_stage(bench: Bench) -> None:
    plan = build_plan(bench.spec(stages=["nudge", {"use": "nudge", "epochs": 5}]), bench.host)
    assert [step.label for step in plan.steps] == ["baseline", "nudge", "nudge+nudge"]
    assert [step.epochs for step in plan.steps] == [0, 1, 5]
    assert [step.parent for step in plan.steps] == [None, plan.steps[0].key, plan.steps[1].key]
    assert plan.path_to(plan.steps[2]) == list(plan.steps)
    assert (plan.epochs, plan.depth(plan.steps[2])) == (6, 2)


def test_pipelines_share_the_steps_with_which_they_begin(bench: Bench) -> None:
    spec = bench.spec(stages=["nudge", "toy-tune", {"use": "nudge", "by": 0.5}], budget={"epochs": 9})
    orders = [order for n in range(4) for order in permutations(range(3), n)]
    plan = build_plan(spec, bench.host, orders)
    assert len(plan.steps) == 16, "15 orders and subsets of three stages, and the baseline"
    assert plan.epochs == 15 * 3
    parents = {step.key for step in plan.steps} | {None}
    assert all(step.parent in parents for step in plan.steps)
    assert [plan.steps.index(plan.path_to(step)[0]) for step in plan.steps] == [0] * 16


def test_the_same_stage_twice_is_two_steps(bench: Bench) -> None:
    plan = build_plan(bench.spec(stages=["nudge"] * 12), bench.host)
    assert len({step.key for step in plan.steps}) == 13


# --- keys


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"validation": 0.2},
        {"dataset": {"use": "toy-blobs", "noise": 0.3}},
        {"baseline": {"epochs": 1}},
        {"baseline": {"epochs": 0, "lr": 0.2}},
    ],
)
def test_what_changes_the_baseline_changes_every_key(bench: Bench, changes: dict[str, Any]) -> None:
    before, after = (build_plan(bench.spec(**c), bench.host).steps for c in ({}, changes))
    assert not {step.key for step in before} & {step.key for step in after}


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": [{"use": "nudge", "by": 0.5}]},
        {"stages": [{"use": "nudge", "epochs": 2}]},
        {"budget": {"epochs": 2}},
        {"stages": ["toy-tune"]},
    ],
)
def test_what_changes_a_stage_changes_its_key_and_not_the_baselines(bench: Bench, changes: dict[str, Any]) -> None:
    before, after = (build_plan(bench.spec(**c), bench.host).steps for c in ({}, changes))
    assert before[0].key == after[0].key
    assert before[1].key != after[1].key


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another", "description": "words"},
        {"threads": 2},
        {"runtimes": ["toy-torch"], "measure": []},
        {"max_disagreement": 0.5},
        {"stages": [{"use": "light:nudge", "epochs": 1, "by": 0.3}]},
    ],
)
def test_what_does_not_change_a_network_changes_no_key(bench: Bench, changes: dict[str, Any]) -> None:
    before, after = (build_plan(bench.spec(**c), bench.host).steps for c in ({}, changes))
    assert [step.key for step in before] == [step.key for step in after]


def test_a_new_version_of_a_stage_is_another_request(bench: Bench) -> None:
    keys = []
    for version in ("1", "2"):
        bench.host.add("given", stage_record("versioned", version=version))
        keys.append([step.key for step in build_plan(bench.spec(stages=["versioned", "nudge"]), bench.host).steps])
    assert keys[0][0] == keys[1][0]
    assert not set(keys[0][1:]) & set(keys[1][1:])


def test_a_checkpoint_counts_by_its_bytes_and_not_by_its_place(bench: Bench) -> None:
    def key(name: str, content: bytes) -> str:
        file = bench.folder / name
        file.write_bytes(content)
        return build_plan(bench.spec(baseline={"checkpoint": str(file)}), bench.host).steps[0].key

    assert key("a.pt", b"one") == key("b.pt", b"one")
    assert key("a.pt", b"one") != key("a.pt", b"two")


# --- facts and order


def test_facts_are_simulated_forward(ordered: Bench) -> None:
    plan = build_plan(ordered.spec(stages=["cut", "trace", "polish", "bake"]), ordered.host)
    assert [sorted(step.facts) for step in plan.steps] == [
        ["plain-modules", "trainable"],
        ["cut", "plain-modules", "trainable"],
        ["cut", "trainable"],
        ["cut", "trainable"],
        ["cut"],
    ]


def test_an_illegal_order_names_step_fact_ender_and_the_nearest_legal_order(ordered: Bench) -> None:
    assert message(ordered, "trace", "cut", "polish") == (
        "stages.1.cut: step 2, cut, needs a model that is plain-modules, which step 1, trace, ended; "
        "the nearest legal order is cut -> trace -> polish; 'study: auto' takes it"
    )


def test_a_fact_that_nothing_gave_is_told_apart_from_one_that_was_ended(ordered: Bench) -> None:
    assert message(ordered, "polish", "cut") == (
        "stages.0.polish: step 1, polish, needs a model that is cut, which no step before it gives; "
        "the nearest legal order is cut -> polish; 'study: auto' takes it"
    )


def test_a_pipeline_that_no_order_makes_legal_is_told_so(ordered: Bench) -> None:
    assert message(ordered, "polish").endswith("no order of these stages is legal; leave one out")
    assert message(ordered, "bake", "nudge").endswith(
        "the nearest legal order is nudge -> bake; 'study: auto' takes it"
    )


def test_a_fact_that_is_given_again_no_longer_counts_as_ended(ordered: Bench) -> None:
    ordered.host.add("given", stage_record("untrace", needs=(), gives=("plain-modules",)))
    build_plan(ordered.spec(stages=["trace", "untrace", "cut"]), ordered.host)


def test_the_nearest_order_has_the_fewest_swaps_of_neighbours(ordered: Bench) -> None:
    stages = ordered.spec(stages=["polish", "trace", "cut", "nudge"]).stages
    order = nearest_legal_order(stages)
    assert order is not None
    assert [stages[i].name for i in order] == ["cut", "polish", "trace", "nudge"]


def test_a_long_illegal_pipeline_gets_advice_that_is_true(ordered: Bench) -> None:
    told = message(ordered, *["nudge"] * 5, "trace", *["nudge"] * 5, "cut")
    found = re.search(r"the nearest legal order is (.*);", told)
    assert found is not None, told
    build_plan(ordered.spec(stages=found[1].split(" -> ")), ordered.host)


def test_an_illegal_order_among_several_pipelines_is_refused(ordered: Bench) -> None:
    spec = ordered.spec(stages=["cut", "trace"])
    assert len(build_plan(spec, ordered.host, [(0, 1), (0,), (1,)]).steps) == 4
    with pytest.raises(PlanError, match="step 2, cut, needs"):
        build_plan(spec, ordered.host, [(0, 1), (1, 0)])


# --- plugins object


def plugin_that_checks(host: Host, name: str, check: Any) -> None:
    from pqd_core import hookimpl

    def pqd_check_plan(plan: Any) -> Any:
        return check(plan)

    host.manager.register(type(name, (), {"pqd_check_plan": staticmethod(hookimpl(pqd_check_plan))})(), name=name)


def test_every_plugins_objections_are_told_with_their_owner(bench: Bench) -> None:
    plugin_that_checks(bench.host, "careful", lambda plan: [Problem("stages.0.nudge", "is rash", "leave it out")])
    plugin_that_checks(bench.host, "content", lambda plan: None)
    plugin_that_checks(
        bench.host, "strict", lambda plan: (Problem("seed", f"is {plan.spec.seeds[0]}") for _ in range(1))
    )
    told = message(bench, "nudge").splitlines()
    assert sorted(told) == ["seed: is 0 (plugin strict)", "stages.0.nudge: is rash (plugin careful); leave it out"]


@pytest.mark.parametrize("check", [lambda plan: 1 / 0, lambda plan: ["words"], lambda plan: 7])
def test_a_check_that_fails_is_told_with_its_owner_and_hides_no_other(bench: Bench, check: Any) -> None:
    plugin_that_checks(bench.host, "careful", lambda plan: [Problem("seed", "is even")])
    plugin_that_checks(bench.host, "broken", check)
    told = message(bench, "nudge")
    assert "plugin broken failed in pqd_check_plan" in told
    assert "seed: is even (plugin careful)" in told
