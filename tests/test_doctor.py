"""`pqd doctor` tells each finding as it is known, and no checkup of a plugin ends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pqd_core import CheckupDef, Finding
from pqd_core.host import checkups, plugins
from pqd_core.host.cli import main
from pqd_core.host.doctor import examine
from pqd_core.host.plugins import Host, Plugin


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    monkeypatch.setattr(plugins, "_default", host)
    for name in checkups.POOLS:
        monkeypatch.delenv(name, raising=False)


def add(host: Host, load: Any, name: str = "scale") -> None:
    host.add("kitchen", CheckupDef(name=name, summary="Looks at the scale.", load=load))


def told_by(host: Host, plugin: str = "kitchen") -> list[str]:
    return [str(told) for told in examine(host) if told.plugin == plugin]


def test_a_plugin_brings_findings(host: Host) -> None:
    add(host, lambda: [Finding("it stands level"), Finding("it is dusty", ok=False, advice="wipe it")])
    assert told_by(host) == ["ok  scale:       it stands level", "!   scale:       it is dusty; wipe it"]


def broken() -> Iterator[Finding]:
    yield Finding("it stands level")
    raise OSError("the battery is empty\nsomewhere in the middle")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (broken, "OSError: the battery is empty"),
        ("nothing_of_that_name:look", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        (lambda: ["dusty"], "TypeError: gave 'dusty', which is no Finding"),
        (lambda: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_a_checkup_that_fails_is_a_line_and_the_next_one_is_asked(host: Host, load: Any, reason: str) -> None:
    add(host, load)
    add(host, lambda: [Finding("it ticks")], name="watch")
    lines = told_by(host)
    assert lines[-2] == (
        f"!   scale:       the checkup failed: {reason}; it comes from the plugin kitchen; see pqd plugins -v"
    )
    assert lines[-1] == "ok  watch:       it ticks"


def test_findings_come_one_by_one(host: Host) -> None:
    add(host, broken)
    told = examine(host)
    assert next(told).checkup == "version", "before anything slow is asked"


def test_plugins_that_failed_are_named(host: Host) -> None:
    host.plugins.append(Plugin("oven", "oven", "oven-for-pqd", "2.0", error="ImportError: no gas"))
    assert any("oven (oven-for-pqd 2.0) failed to load: ImportError: no gas" in line for line in told_by(host, "core"))


def test_the_command_ends_well_and_speaks_json(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(host, broken)
    monkeypatch.setattr(sys, "argv", ["pqd", "doctor"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert {line[4:].partition(":")[0] for line in lines} == {
        "version",
        "cpu",
        "threads",
        "memory",
        "store",
        "plugins",
        "scale",
    }
    monkeypatch.setattr(sys, "argv", ["pqd", "doctor", "--json"])
    with pytest.raises(SystemExit):
        main()
    found = json.loads(capsys.readouterr().out)
    assert found[-1]["finding"]["ok"] is False
    assert found[-1]["plugin"] == "kitchen"


# --- threads


def findings(cgroup: Path, topology: Path) -> list[Finding]:
    return list(checkups.threads(cgroup, topology))


def test_variables_that_set_threads_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(finding.ok for finding in findings(tmp_path, tmp_path)[1:])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    last = findings(tmp_path, tmp_path)[-1]
    assert (last.text, last.ok) == ("OMP_NUM_THREADS=1 is set", False)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    ],
)
def test_a_quota_is_read_from_either_kind_of_control_group(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert checkups.cpu_quota(tmp_path) == cores


def test_a_quota_below_the_cores_comes_with_advice(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    [quota] = [finding for finding in findings(tmp_path, tmp_path) if "quota" in finding.text]
    assert (quota.text, quota.ok) == ("a CPU quota allows 0.5 cores", False)
    assert quota.advice == "set threads to 1: more are throttled in slices"


def test_threads_that_share_a_core_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    assert any("2 physical cores" in finding.text for finding in findings(tmp_path, tmp_path))
