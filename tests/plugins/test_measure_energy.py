"""Energy comes from the machine's counters, which may start again; without them it is missing with a reason."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from linear_runtime import LinearSettings
from measure_kit import SHAPE, some_weights

from pqd_measure import LatencySettings, checkups
from pqd_measure.energy import Counter, NoCounters, find_counters, read_uj, spent_uj
from pqd_measure.findings import Missing, findings
from pqd_measure.side_by_side import Subject, Timed, Visit, time_side_by_side

LIMIT_UJ = 262_143_328_850
"""Four bytes in units of 61 microjoules."""
Zones = dict[str, tuple[str, int]]
SERVER: Zones = {
    # two sockets, the memory of each in a counter of its own
    "intel-rapl:0": ("package-0", 100),
    "intel-rapl:0:0": ("dram", 10),
    "intel-rapl:1": ("package-1", LIMIT_UJ - 10),
    "intel-rapl:1:0": ("dram", 20),
}
LAPTOP: Zones = {
    # cores and graphics are in the package, the whole board is once more, and MMIO shows the same counter again
    "intel-rapl:0": ("package-0", 100),
    "intel-rapl:0:0": ("core", 40),
    "intel-rapl:0:1": ("uncore", 30),
    "intel-rapl:0:2": ("dram", 10),
    "intel-rapl:1": ("psys", 5000),
    "intel-rapl-mmio:0": ("package-0", 100),
}
TWO_DIES: Zones = {"intel-rapl:0": ("package-0-die-0", 1), "intel-rapl:1": ("package-0-die-1", 2)}
AMD: Zones = {"intel-rapl:0": ("package-0", 7), "intel-rapl:0:0": ("core", 3)}


def machine(folder: Path, zones: Zones) -> Path:
    """A class folder with links to zones that lie within each other, as Linux has them."""
    root, devices = folder / "class" / "powercap", folder / "devices" / "virtual" / "powercap"
    root.mkdir(parents=True)
    for zone, (name, energy_uj) in zones.items():
        control, *parts = zone.split(":")
        home = devices.joinpath(control, *(":".join([control, *parts[: n + 1]]) for n in range(len(parts))))
        home.mkdir(parents=True)
        told = {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": LIMIT_UJ, "enabled": 1}
        for file, content in told.items():
            (home / file).write_text(f"{content}\n")
        (root / zone).symlink_to(home)
    for control in {zone.partition(":")[0] for zone in zones}:
        (devices / control / "enabled").write_text("1\n")
        (root / control).symlink_to(devices / control)
    return root


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    return machine(tmp_path, SERVER)


@pytest.mark.parametrize(
    ("zones", "counted"),
    [
        (SERVER, {"package-0": 100, "dram": 20, "package-1": LIMIT_UJ - 10}),
        (LAPTOP, {"package-0": 100, "dram": 10}),
        (TWO_DIES, {"package-0-die-0": 1, "package-0-die-1": 2}),
        (AMD, {"package-0": 7}),
    ],
    ids=["server", "laptop", "two dies", "AMD"],
)
def test_packages_and_their_memory_are_counted_once_each(tmp_path: Path, zones: Zones, counted: dict[str, int]) -> None:
    counters = find_counters(machine(tmp_path, zones))
    assert len(counters) == len({counter.file for counter in counters}) == (4 if zones is SERVER else len(counted))
    assert {counter.name: counter.read_uj() for counter in counters} == counted


def test_a_counter_that_starts_again_is_followed(powercap: Path) -> None:
    counters = find_counters(powercap)
    before = read_uj(counters)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("160\n")
    (powercap / "intel-rapl:1" / "energy_uj").write_text("20\n")
    assert spent_uj(counters, before, read_uj(counters)) == 60 + (20 + 10)


def test_a_counter_that_goes_away_takes_no_time_along(powercap: Path) -> None:
    """A package may be switched off; what is timed goes on."""
    counters = find_counters(powercap)
    before = read_uj(counters)
    (powercap / "intel-rapl:1" / "energy_uj").write_text("")
    assert read_uj(counters) is None
    assert spent_uj(counters, before, None) is None


def test_without_counters_there_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(NoCounters, match="shows no energy counters"):
        find_counters(tmp_path)
    with pytest.raises(NoCounters, match="shows no energy counters"):
        find_counters(tmp_path / "nothing")


def test_who_may_not_read_a_counter_is_told_how_to_be_allowed(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, *_: object, **__: object) -> str:
        if file.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(file))
        return str(real(file))

    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NoCounters, match=r"intel-rapl:0/energy_uj cannot be read: only root .*chmod a\+r"):
        find_counters(powercap)


def test_counters_that_a_container_hides_are_a_reason(powercap: Path, tmp_path: Path) -> None:
    """Docker lays an empty folder over /sys/devices/virtual/powercap; the links to it stay."""
    shutil.rmtree(tmp_path / "devices")
    with pytest.raises(NoCounters, match="name cannot be read: it is not there, as in a container"):
        find_counters(powercap)


def test_a_counter_without_a_number_is_a_reason(powercap: Path) -> None:
    (powercap / "intel-rapl:0" / "max_energy_range_uj").write_text("\n")
    with pytest.raises(NoCounters, match="cannot be read: invalid literal"):
        find_counters(powercap)


def test_a_counter_that_cannot_be_read_is_a_reason(powercap: Path) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.unlink()
    file.mkdir()
    with pytest.raises(NoCounters, match="energy_uj cannot be read: Is a directory"):
        find_counters(powercap)


def timed_with(spent_uj: Sequence[Sequence[int | None]], ms: float = 20.0) -> Timed:
    """Two inferences of `ms` in each turn."""
    visits = []
    for turns in spent_uj:
        visit = Visit({"no_energy": None, "load_ms": 1.0, "first_ms": 1.0}, memory={"missing": "not looked at"})
        visit.turns = [{"times_ms": [ms, ms], "energy_uj": spent, "preempted": 0, "waited": 0.0} for spent in turns]
        visits.append(visit)
    return Timed(visits)


def test_energy_is_per_inference_and_the_median_of_the_rounds() -> None:
    settings = LatencySettings()
    found = findings(timed_with([[3000, 4000], [4000, 90_000]]), Missing("no baseline"), settings)["energy_mj"]
    assert not isinstance(found, Missing)
    assert found.value == 2.0


@pytest.mark.parametrize(
    ("spent", "ms", "reason"),
    [
        ([[3000, 0], [4000, 4000]], 20.0, "did not move during a turn"),
        ([[3000, None], [4000, 4000]], 20.0, "could not be read any more during a turn"),
        (
            [[3000, 3000], [4000, 4000]],
            9.0,
            "a turn of 18.0 ms is too short for energy counters",
        ),
    ],
)
def test_energy_that_cannot_be_told_is_missing(spent: list[list[int | None]], ms: float, reason: str) -> None:
    found = findings(timed_with(spent, ms), Missing("no baseline"), LatencySettings())
    assert isinstance(found["energy_mj"], Missing)
    assert reason in found["energy_mj"].reason
    assert not isinstance(found["latency_ms"], Missing)


def test_counters_that_stand_still_give_no_number(powercap: Path, tmp_path: Path) -> None:
    """Through a real process: it found the counters and read them around its turns."""
    np.save(tmp_path / "a.npy", some_weights())
    np.save(tmp_path / "images.npy", np.zeros((4, *SHAPE), np.float32))
    subject = Subject(tmp_path / "a.npy", "linear_runtime", LinearSettings(), tmp_path / "images.npy")
    settings = LatencySettings(processes=2, rounds=5, seconds=0.1, warmup_s=0.1)
    timed = time_side_by_side({"a": subject}, settings, 1, tmp_path, powercap=powercap)["a"]
    assert timed.failure is None
    assert timed.energy_mj.shape == (2, 3)
    assert (timed.energy_mj == 0).all()
    none = time_side_by_side({"a": subject}, settings, 1, tmp_path, powercap=tmp_path)["a"]
    found = findings(none, none, settings)["energy_mj"]
    assert isinstance(found, Missing)
    assert found.reason == f"this machine shows no energy counters (RAPL) in {tmp_path}"


# --- what the doctor is told


def test_the_doctor_is_told_of_counters_or_why_there_are_none(
    powercap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [found] = checkups.energy(powercap)
    assert found.text.startswith("energy will be missing: the counters of package-0, dram, package-1, dram do not move")
    readings = iter([[100, 10], [100_100, 10]])
    monkeypatch.setattr(checkups, "read_uj", lambda counters: next(readings))
    monkeypatch.setattr(
        checkups, "find_counters", lambda root: [Counter("package-0", root, 1), Counter("dram", root, 1)]
    )
    [found] = checkups.energy(powercap)
    assert re.fullmatch(r"energy counters of package-0, dram: 0\.\d W while nothing is measured", found.text)
    monkeypatch.undo()
    [missing] = checkups.energy(tmp_path)
    assert missing.text.startswith("energy will be missing: this machine shows no energy counters")
    assert missing.ok, "nothing that a person has to mend"


def test_the_doctor_is_told_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkups, "usable_cpus", lambda: {0})
    assert [finding.ok for finding in checkups.clock(tmp_path)] == [True]
    (tmp_path / "cpu0" / "cpufreq").mkdir(parents=True)
    (tmp_path / "cpu0" / "cpufreq" / "scaling_governor").write_text("powersave\n")
    [found] = checkups.clock(tmp_path)
    assert (found.text, found.ok) == ("the clock's governor is powersave", False)


def test_noise_is_called_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    even, uneven = np.full(100, 2.0), np.r_[np.full(90, 2.0), np.full(10, 4.0)]
    monkeypatch.setattr(checkups, "hash_times_ms", lambda: even)
    assert next(iter(checkups.noise())).ok
    monkeypatch.setattr(checkups, "hash_times_ms", lambda: uneven)
    found = next(iter(checkups.noise()))
    assert not found.ok
    assert "95 of 100 times at most 2.00 times the median, the longest 2.0 times" in found.text


def test_time_that_others_took_is_told(tmp_path: Path) -> None:
    def ticks(line: str) -> checkups.Ticks:
        (tmp_path / "stat").write_text(line + "\ncpu0 1 2 3\n")
        found = checkups.Ticks.now(tmp_path / "stat")
        assert found is not None
        return found

    before, after = ticks("cpu  100 0 100 1000 50 0 0 10 0 0"), ticks("cpu  150 0 100 1130 50 0 0 30 0 0")
    stolen, busy = checkups._others(before, after, own_s=0.0)
    assert (stolen.text, stolen.ok) == ("other virtual machines took 10.0% of the time", False)
    assert not busy.ok
    assert checkups.Ticks.now(tmp_path / "nothing") is None
