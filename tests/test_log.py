from __future__ import annotations

import json
from pathlib import Path

import pytest

from pqd_core.host.log import bound, get_logger, logging_to


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_events_are_json_lines_with_what_is_bound_to_them(tmp_path: Path) -> None:
    log = get_logger("test")
    with logging_to(tmp_path / "log.jsonl"), bound(step="prune", plugin="mine"):
        log.info("trained", epochs=3, where=Path("x"), word="größer\n夜")
    log.info("nobody hears this")
    (line,) = lines(tmp_path / "log.jsonl")
    assert (line["event"], line["level"], line["part"]) == ("trained", "info", "test")
    assert (line["step"], line["plugin"], line["epochs"], line["where"]) == ("prune", "mine", 3, "x")
    assert line["word"] == "größer\n夜"
    assert str(line["timestamp"]).endswith("Z")


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in range(2):
        with logging_to(tmp_path / "log.jsonl"):
            get_logger("test").info("run", number=number)
    assert [line["number"] for line in lines(tmp_path / "log.jsonl")] == [0, 1]


def test_an_error_is_logged_with_its_traceback(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log.jsonl"):
        try:
            raise ValueError("no")
        except ValueError:
            get_logger("test").exception("failed")
    assert "ValueError: no" in str(lines(tmp_path / "log.jsonl")[0]["exception"])


def test_the_terminal_hears_what_the_file_hears(tmp_path: Path) -> None:
    heard: list[object] = []
    with logging_to(tmp_path / "log.jsonl", lambda event: heard.append(event["event"])):
        get_logger("test").warning("look")
    assert heard == ["look"]


def test_without_a_run_warnings_reach_the_user_and_the_rest_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    log = get_logger("test")
    log.info("quiet")
    log.warning("look out")
    assert capsys.readouterr().err == "pqd: look out\n"


def test_a_log_on_a_full_disk_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with logging_to(full):
        get_logger("test").info("lost")
    assert capsys.readouterr().err == "pqd: the log lost a line: No space left on device\n"


def test_the_log_is_closed_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), logging_to(tmp_path / "log.jsonl"):
        1 / 0  # noqa: B018
    get_logger("test").info("nobody hears this")
    assert lines(tmp_path / "log.jsonl") == []
