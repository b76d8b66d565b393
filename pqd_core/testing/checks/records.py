"""What is asked of every record, and costs nothing."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pqd_core.host.environment import package_version
from pqd_core.host.keys import canonical_json
from pqd_core.records import RuntimeDef, Settings
from pqd_core.testing.case import EVERY_KIND, Case, check, require
from pqd_core.testing.workshop import workshop

NEXT_SENTENCE = re.compile(r"[.!?]\s+[A-Z]")
DUTIES = {
    "backbone": {"build": 2},
    "dataset": {"open_data": 1},
    "stage": {"restructure": 3, "run": 3, "freeze": 1},
    "runtime": {"export": 5, "open_session": 4, "weights": 1},
    "measurer": {"measure": 3},
    "task": {},
    "renderer": {},
}
"""The functions of each implementation, and how many arguments the core calls them with; none if it is one itself."""
OPTIONAL = {"stage": {"rehearse": 3}}
"""The same for functions that may be left out."""
UNKNOWN = "not_a_setting_of_anything"


@check(EVERY_KIND)
def summary_is_one_sentence(case: Case) -> None:
    """The summary is one sentence on one line of at most 140 characters that ends with a period."""
    summary = case.record.summary
    require("\n" not in summary, "the summary has several lines")
    require(len(summary) <= 140, f"the summary has {len(summary)} characters, at most 140 fit a line")
    require(summary.endswith("."), "the summary does not end with a period")
    require(not NEXT_SENTENCE.search(summary), "the summary is more than one sentence")


@check()
def settings_are_described(case: Case) -> None:
    """Every setting has a description, also those inside of settings."""
    missing = list(_undescribed(case.component.settings, ""))
    require(not missing, f"settings without a description: {', '.join(missing)}")


def _undescribed(model: type[BaseModel], where: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not (field.description or "").strip():
            yield f"{where}{name}"
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if inspect.isclass(kind) and issubclass(kind, BaseModel) and kind is not model:
                yield from _undescribed(kind, f"{where}{name}.")


@check()
def settings_refuse_unknown_keys(case: Case) -> None:
    """A key that is no setting is refused, so that a typing error is never silent."""
    shop = workshop(case)
    try:
        case.component.settings.model_validate({**shop.values, UNKNOWN: 1}, context={"host": shop.host})
    except ValidationError as error:
        refused = any(UNKNOWN in map(str, problem["loc"]) for problem in error.errors())
        require(refused, f"the unknown key was not what was refused: {error}")
        return
    require(False, f"took the unknown key {UNKNOWN}; keep extra='forbid' of pqd_core.Settings")


@check()
def settings_are_frozen(case: Case) -> None:
    """Settings cannot be changed after they were read: they are part of a content key."""
    require(case.component.settings.model_config.get("frozen"), "keep frozen=True of pqd_core.Settings")


@check()
def defaults_are_legal(case: Case) -> None:
    """Every default would be accepted if a person wrote it."""
    settings, model = workshop(case).settings, case.component.settings
    wrong = []
    for name, field in model.model_fields.items():
        if not field.is_required() and getattr(settings, name) == field.get_default(call_default_factory=True):
            wrong += [f"{name}: {message}" for message in _refused(case, name)]
    require(not wrong, f"defaults that are not accepted: {'; '.join(wrong)}")


def _refused(case: Case, name: str) -> list[str]:
    shop = workshop(case)
    default = shop.settings.model_dump()[name]
    try:
        case.component.settings.model_validate({**shop.values, name: default}, context={"host": shop.host})
    except ValidationError as error:
        return [problem["msg"] for problem in error.errors()]
    return []


@check()
def settings_round_trip(case: Case) -> None:
    """Settings written as JSON are read back as the same settings, so that a report's spec runs again."""
    shop = workshop(case)
    written = shop.settings.model_dump_json()
    again = read_again(case, written)
    require(again.model_dump_json() == written, f"{written} was read back as {again.model_dump_json()}")


def read_again(case: Case, written: str) -> Settings:
    """Settings from their JSON, as a spec is read."""
    return case.component.settings.model_validate(json.loads(written), context={"host": workshop(case).host})


@check()
def implementation_has_its_duties(case: Case) -> None:
    """What `load` names can be imported, and has the functions that the core calls, with their arguments."""
    implementation = case.component.implementation()
    require(callable(implementation) or DUTIES[workshop(case).noun], f"{case.component.load} is no function")
    noun = workshop(case).noun
    for duty, arguments in (DUTIES[noun] | OPTIONAL.get(noun, {})).items():
        function = getattr(implementation, duty, None)
        require(callable(function) or duty not in DUTIES[noun], f"{case.component.load} has no function {duty}")
        require(function is None or _takes(function, arguments), f"{duty} cannot be called with {arguments} arguments")


def _takes(function: Any, arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # written in C, and does not tell
        pass
    return True


@check(RuntimeDef)
def tuning_is_told_alike(case: Case) -> None:
    """`tuned_to`, if there is one, gives a mapping of plain JSON, and on one machine the same each time."""
    assert isinstance(case.record, RuntimeDef)
    if case.record.tuned_to is None:
        return
    first, again = (case.record.tuned_to(workshop(case).settings, 1) for _ in range(2))
    require(isinstance(first, Mapping), f"tuned_to gave a {type(first).__name__}, not a mapping")
    require(first == again, f"tuned_to gave {first}, then {again}")
    try:
        canonical_json(dict(first))
    except (TypeError, ValueError) as error:
        require(False, f"tuned_to gave {first}, which is no plain JSON: {error}")


@check(RuntimeDef)
def required_distributions_are_installed(case: Case) -> None:
    """Every distribution in `requires` has a version to put into a deployment's key."""
    assert isinstance(case.record, RuntimeDef)
    gone = [name for name in case.record.requires if package_version(name) is None]
    require(not gone, f"requires names what is not installed: {', '.join(gone)}")
