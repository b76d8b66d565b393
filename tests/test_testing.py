"""The conformance kit finds what is wrong, names it, and holds its own words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pqd_core
from pqd_core.testing import Case, run_checks, toys
from pqd_core.testing.case import CHECKS
from pqd_core.testing.kit import _load_checks

CORE = Path(pqd_core.__file__).parent
[TUNE] = toys.pqd_stages()


@pytest.fixture(autouse=True, scope="module")
def _checks() -> None:
    _load_checks()


def test_every_check_that_the_core_names_is_in_the_kit() -> None:
    named = {name for file in CORE.rglob("*.py") for name in re.findall(r'"check: ([a-z-]+)"', file.read_text())}
    assert len(named) >= 3
    assert named <= set(CHECKS)


def test_every_check_says_in_a_sentence_what_holds() -> None:
    assert len(CHECKS) > 40
    assert [name for name, check in CHECKS.items() if not check.says.endswith(".") or "\n" in check.says] == []


def test_a_good_record_passes_every_check_without_pytest() -> None:
    outcomes = run_checks(TUNE)
    assert {outcome.record for outcome in outcomes} == {"toy-tune"}
    assert [str(outcome) for outcome in outcomes if not outcome.ok] == []


def test_an_expected_failure_that_is_no_check_of_the_record_is_told() -> None:
    with pytest.raises(ValueError, match="no check named 'gives-logit' is asked of it"):
        run_checks(Case(TUNE, expect={"gives-logit": "no reason"}))
