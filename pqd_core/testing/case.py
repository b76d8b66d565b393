"""What is checked: a record with its settings, and what each check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from pqd_core.host.errors import did_you_mean
from pqd_core.records import CheckupDef, CommandDef, ComponentDef, RecipeDef, Record, StageDef

Values = Mapping[str, Any]
EVERY_KIND = (ComponentDef, RecipeDef, CommandDef, CheckupDef)
Kind = type[Record] | type[ComponentDef]


@frozen(eq=False)
class Case:
    """A record to check: with which settings, after which stages, and which checks are known to fail."""

    record: Record | ComponentDef
    settings: Values | Callable[[Path], Values] = field(factory=dict)
    """Settings that have no default, or a function that makes them in an empty folder; for a recipe what `--set` would
    set, as where its data lie."""
    after: tuple[StageDef, ...] = ()
    """Stages that run before a stage that needs their facts."""
    shape: tuple[int, int, int] = (1, 8, 8)
    """(channels, height, width) of the images that a backbone is built for."""
    expect: Mapping[str, str] = field(factory=dict)
    """Checks that fail, each with the reason; one that passes all the same is a failure."""

    @property
    def name(self) -> str:
        """The record's name."""
        return self.record.name

    @property
    def component(self) -> ComponentDef:
        """The record, where it has settings and an implementation."""
        assert isinstance(self.record, ComponentDef)
        return self.record


class CheckFailed(AssertionError):
    """A record does not keep the contract; says which check found it, and what is wrong."""


@frozen
class Check:
    """One question to a record."""

    name: str
    of: Kind | tuple[Kind, ...]
    says: str
    """What holds of a record that passes, in a sentence."""
    act: Callable[[Case], None]
    asked: Callable[[Case], bool]

    def __call__(self, case: Case) -> None:
        """Ask.

        Raises:
            CheckFailed: the answer is no.
        """
        try:
            self.act(case)
        except CheckFailed as failure:
            raise CheckFailed(f"{case.name}: {self.name}: {failure}") from failure.__cause__


CHECKS: dict[str, Check] = {}


def check(
    of: Kind | tuple[Kind, ...] = ComponentDef,
    asked: Callable[[Case], bool] = lambda case: True,
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """A decorator that makes a function a check: its name is the check's, its docstring what then holds."""

    def register(act: Callable[[Case], None]) -> Callable[[Case], None]:
        name = act.__name__.replace("_", "-")
        CHECKS[name] = Check(name, of, (act.__doc__ or "").strip(), act, asked)
        return act

    return register


def require(holds: object, otherwise: str) -> None:
    """`holds`, or the check has failed, for the reason given."""
    if not holds:
        raise CheckFailed(otherwise)


def as_cases(records: Iterable[Record | ComponentDef | Case]) -> list[Case]:
    """Each record as a case; a case stays as it is."""
    return [given if isinstance(given, Case) else Case(given) for given in records]


def checks_for(case: Case) -> list[Check]:
    """Every check that can be asked of the case, cheap ones first.

    Raises:
        ValueError: the case expects the failure of a check that there is not, or that is not asked of it.
    """
    found = [check for check in CHECKS.values() if isinstance(case.record, check.of) and check.asked(case)]
    names = [check.name for check in found]
    for unknown in sorted(set(case.expect) - set(names)):
        raise ValueError(f"{case.name}: no check named '{unknown}' is asked of it; {did_you_mean(unknown, names)}")
    return found
