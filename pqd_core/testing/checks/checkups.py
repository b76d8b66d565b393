"""What is asked of checkups: an answer soon, in sentences that a person can act on."""

from __future__ import annotations

import threading
from typing import Any

from pqd_core.records import CheckupDef, Finding, resolve
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.state import watched
from pqd_core.testing.workshop import workshop

LIMIT_S = 30.0
"""Far more than a checkup may take, so that a busy machine fails none that keeps its second."""


def _findings(case: Case) -> list[Any]:
    """What the checkup tells, asked once.

    Raises:
        CheckFailed: it does not answer in time.
        Exception: what it raises.
    """
    shared = workshop(case).shared
    if "findings" not in shared:
        assert isinstance(case.record, CheckupDef)
        function, found, raised = resolve(case.record.load), list[Any](), list[Exception]()

        def ask() -> None:
            try:
                found.extend(function())
            except Exception as error:  # told to whoever asked
                raised.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        with watched() as changes:
            asking.start()
            asking.join(LIMIT_S)
        require(not asking.is_alive(), f"no answer within {LIMIT_S:g} s; `pqd doctor` asks many, a second for each")
        if raised:
            raise raised[0]
        shared["findings"], shared["changes"] = found, changes
    return list(shared["findings"])


@check(CheckupDef)
def answers_soon(case: Case) -> None:
    """It tells at least one thing, and within seconds."""
    require(_findings(case), "tells nothing, not even that all is well")


@check(CheckupDef)
def findings_say_what_is_so_and_what_to_do(case: Case) -> None:
    """Each answer is a `Finding` in one line; one that is not well says what to do."""
    for finding in _findings(case):
        require(isinstance(finding, Finding), f"gave a {type(finding).__name__}, not a Finding")
        require(finding.text.strip() and "\n" not in finding.text, f"is not one line: {finding.text!r}")
        require(finding.ok or finding.advice.strip(), f"says no way out: {finding.text}")


@check(CheckupDef)
def looking_leaves_the_process_alone(case: Case) -> None:
    """Environment, folder, log handlers, all random states and torch's settings come back as they were."""
    _findings(case)
    changes = workshop(case).shared["changes"]
    require(not changes, f"looking changed {', '.join(changes)}")
