from __future__ import annotations

import io
import logging
import os

import pytest
from rich.console import Console

from pqd_core import describe_cpu
from pqd_core.host.environment import describe_environment, package_version, usable_cores
from pqd_core.host.progress import Bar, Quiet
from pqd_core.host.quiet import quiet_neighbours
from pqd_core.host.terminal import _Warnings


def shown(terminal: bool) -> str:
    """What a short run looks like."""
    text = io.StringIO()
    with Bar(Console(file=text, force_terminal=terminal, width=120)).shown() as bar:
        bar.start(100)
        bar.describe("step 1 of 2, baseline")
        bar.advance(50)
        bar.tell("  baseline  [dim]3 epochs, 1.0 s[/dim]")
        bar.advance(100)
    return text.getvalue()


def test_without_a_terminal_there_are_plain_lines_and_no_bar() -> None:
    assert shown(terminal=False).split("\n")[:2] == ["step 1 of 2, baseline", "  baseline  3 epochs, 1.0 s"]
    assert "\x1b" not in shown(terminal=False)


def test_on_a_terminal_there_is_a_bar_with_the_time_that_is_left() -> None:
    text = shown(terminal=True)
    assert "left" in text
    assert "%" in text
    assert "3 epochs, 1.0 s" in text


def test_a_run_of_no_work_has_a_bar_too() -> None:
    with Bar(Console(file=io.StringIO())).shown() as bar:
        bar.start(0)
        bar.advance(0)


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Quiet()
    quiet.start(1)
    quiet.describe("x")
    quiet.advance(1)
    quiet.tell("y")
    assert capsys.readouterr() == ("", "")


def test_warnings_are_shown_as_they_are_written() -> None:
    text = io.StringIO()
    warn = _Warnings(Console(file=text, width=120))
    warn({"level": "info", "event": "quiet"})
    warn({"level": "warning", "event": "folder [/red] is [bold] 2 [x]"})
    assert text.getvalue() == "warning folder [/red] is [bold] 2 [x]\n"


def test_the_machine_is_described() -> None:
    found = describe_environment(threads=2, device="cpu")
    assert found["cpu"] == describe_cpu()
    assert found["cpu"]["cores"] == usable_cores() >= 1
    assert found["threads"] == 2
    assert found["versions"]["torch"] == package_version("torch")
    assert package_version("no-such-distribution") is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_only_the_cores_of_this_process_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_neighbours_are_quiet_within_and_heard_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("torch.utils._pytree")
    with quiet_neighbours():
        logger.warning("an inner matter")
        logger.error("a fault")
    logger.warning("again")
    assert [record.message for record in caplog.records] == ["a fault", "again"]
