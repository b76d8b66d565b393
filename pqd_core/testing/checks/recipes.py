"""What is asked of recipes: that a person who runs one by name gets a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pqd_core.host.errors import PqdError
from pqd_core.host.overrides import apply_override
from pqd_core.host.plugins import default_host
from pqd_core.host.read_spec import parse_spec, recipe_mapping
from pqd_core.records import RecipeDef
from pqd_core.testing.case import Case, CheckFailed, check, require
from pqd_core.testing.workshop import workshop


@check(RecipeDef)
def spec_can_be_planned(case: Case) -> None:
    """The spec, or that of each part, names only what is installed, and has a legal plan; its data have to be there."""
    from pqd_core.plan import build_plan

    for recipe in _parts(case):
        require(isinstance(recipe.spec, str | dict), f"its part {recipe.name} has parts of its own")
        try:
            plan = build_plan(parse_spec(_mapping(case, recipe), default_host()), default_host())
        except PqdError as error:
            problems = "; ".join(map(str, error.problems))
            raise CheckFailed(f"{recipe.name} has no plan: {problems}") from error
        except (OSError, ModuleNotFoundError) as error:
            raise CheckFailed(f"{recipe.spec} cannot be read ({type(error).__name__}: {error})") from error
        require(plan.pipelines, f"{recipe.name} comes to no pipeline")


def _parts(case: Case) -> Iterator[RecipeDef]:
    """The recipe itself, or those that it is made of."""
    assert isinstance(case.record, RecipeDef)
    known = {owned.record.name: owned.record for owned in default_host().registry("recipe")}
    for part in case.record.parts:
        require(part in known, f"its part {part} is no recipe that is installed")
        yield known[part]
    if not case.record.parts:
        yield case.record


def _mapping(case: Case, recipe: RecipeDef) -> dict[str, Any]:
    """The spec as a file would hold it, with what the case sets."""
    raw = recipe_mapping(recipe)
    for key, value in workshop(case).values.items():
        apply_override(raw, f"{key}={value}")
    return raw
