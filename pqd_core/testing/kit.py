"""The conformance kit: every check on every record, under pytest or without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from attrs import frozen

from pqd_core.records import ComponentDef, Record
from pqd_core.testing.case import Case, Check, as_cases, checks_for

F = TypeVar("F", bound=Callable[..., Any])
CHECKS_IN_ORDER = (
    "records",
    "processes",
    "stages",
    "stages_deployed",
    "backbones",
    "datasets",
    "tasks",
    "runtimes",
    "measurers",
    "recipes",
    "commands",
    "checkups",
)


def _load_checks() -> None:
    """Every check is registered, cheap ones first."""
    for name in CHECKS_IN_ORDER:
        import_module(f"pqd_core.testing.checks.{name}")


@frozen
class Outcome:
    """What one check found of one record."""

    record: str
    check: str
    problem: str | None
    """What is wrong, None if nothing is."""
    expected: str | None
    """The reason why it was expected to fail, None if it was not."""

    @property
    def ok(self) -> bool:
        """Whether it went as expected."""
        return (self.problem is None) == (self.expected is None)

    def __str__(self) -> str:
        if self.ok:
            return f"{self.record}: {self.check}: " + (f"fails, as expected: {self.expected}" if self.problem else "ok")
        return self.problem or f"{self.record}: {self.check}: passes, though its failure is expected: {self.expected}"


def run_checks(record: Record | ComponentDef | Case) -> list[Outcome]:
    """What every check finds of one record; nothing is raised for a record that fails."""
    _load_checks()
    [case] = as_cases([record])
    return [_outcome(case, check) for check in checks_for(case)]


def _outcome(case: Case, check: Check) -> Outcome:
    problem = None
    try:
        check(case)
    except AssertionError as failure:
        problem = str(failure)
    except (Exception, SystemExit) as error:
        problem = f"{case.name}: {check.name}: {type(error).__name__}: {error}"
    return Outcome(case.name, check.name, problem, case.expect.get(check.name))


def parametrize_with_checks(records: Iterable[Record | ComponentDef | Case]) -> Callable[[F], F]:
    """A decorator that runs a test once for each record and check; its argument `check` is called without arguments.

        @parametrize_with_checks(pqd_stages())
        def test_it_keeps_the_contract(check):
            check()

    The checks of one record share what they make, so under pytest-xdist they stay together with `--dist loadgroup`,
    or, where that has no effect (pytest-xdist 3.8 with pytest 9.2), with `--dist loadfile`.
    """
    import pytest

    _load_checks()
    parameters = [
        pytest.param(partial(check, case), id=f"{case.name}-{check.name}", marks=_marks(case, check))
        for case in as_cases(records)
        for check in checks_for(case)
    ]
    return pytest.mark.parametrize("check", parameters)


def _marks(case: Case, check: Check) -> list[Any]:
    import pytest

    marks = [pytest.mark.xdist_group(f"pqd-{case.name}")]
    if check.name in case.expect:
        marks.append(pytest.mark.xfail(reason=case.expect[check.name], strict=True))
    return marks
