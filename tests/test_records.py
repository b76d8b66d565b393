from __future__ import annotations

import sys
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError
from pydantic import Field, ValidationError

from pqd_core import MeasurerDef, MetricDef, RecipeDef, RuntimeDef, Settings, StageDef
from pqd_core.records import FactDef, resolve


def stage(**changes: Any) -> StageDef:
    return StageDef(**{"name": "cut", "kind": "prune", "summary": "Cuts.", "load": "json:loads", **changes})


@pytest.mark.parametrize("name", ["cut", "int8-qat", "wrn-28-10", "a/b", "v1.5", "4bit", "a.b-c/d"])
def test_a_kebab_case_name_is_a_name(name: str) -> None:
    assert stage(name=name).name == name
    assert RecipeDef(name=name, summary="s", spec={}).name == name


@pytest.mark.parametrize("name", ["", "Cut", "cut ", "-cut", "cut-", "a--b", "a:b", "ä", "a_b", "/a", "a/", "cut\n"])
def test_anything_else_is_refused_as_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        stage(name=name)


@pytest.mark.parametrize("name", ["a/..", "../a", "a/../../b", "a/.", ".", ".."])
def test_a_name_never_leads_out_of_a_folder(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        stage(name=name)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        stage().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("changes", [{"summary": ""}, {"settings": dict}, {"settings": Settings()}, {"version": 2}])
def test_a_record_is_checked_when_it_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        stage(**changes)


def test_a_measurer_names_its_metrics() -> None:
    with pytest.raises(ValueError, match="metrics"):
        MeasurerDef(name="m", summary="s", load="x", metrics=())
    assert MetricDef("time_ms", "ms", "lower").headline


def test_an_implementation_is_imported_when_it_is_asked_for() -> None:
    sys.modules.pop("this", None)
    record = RuntimeDef(name="r", summary="s", load="json:loads")
    assert record.implementation()("[1]") == [1]
    assert resolve("json.decoder:JSONDecoder.decode").__name__ == "decode"
    thing = object()
    assert resolve(thing) is thing


def test_a_stage_says_which_facts_hold_after_it() -> None:
    facts = frozenset({"trainable", "plain-modules"})
    new = FactDef("cut", "it was cut", lambda model, evidence: [])
    assert stage().after(facts) == facts
    assert stage(gives=("sparse", new)).after(facts) == facts | {"sparse", "cut"}
    assert stage(ends=("plain-modules",)).after(facts) == {"trainable"}
    assert stage(keeps=()).after(facts) == frozenset()
    assert stage(keeps=("trainable",), gives=("sparse",)).after(facts) == {"trainable", "sparse"}
    assert stage(gives=("plain-modules",), ends=("plain-modules",)).after(facts) == facts, "a stage may renew a fact"


class Typed(Settings):
    share: float = Field(0.5, ge=0, le=1, description="A share.")


def test_settings_are_frozen_and_know_all_their_keys() -> None:
    with pytest.raises(ValidationError):
        Typed().share = 0.1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Typed(sahre=0.1)  # type: ignore[call-arg]
    for value in (float("nan"), float("inf"), "half", 1.5):
        with pytest.raises(ValidationError):
            Typed(share=value)
