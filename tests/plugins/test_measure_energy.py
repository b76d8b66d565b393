"""Energy comes from the machine's counters, which may start again; without them it is missing with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from linear_runtime import LinearSettings
from measure_kit import SHAPE, some_weights

from pqd_measure import LatencySettings, checkups
from pqd_measure.energy import NoCounters, find_counters, read_uj, spent_uj
from pqd_measure.findings import Missing, findings
from pqd_measure.side_by_side import Subject, Timed, Visit, time_side_by_side

LIMIT_UJ = 1000


def zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    (root / folder).mkdir(parents=True)
    (root / folder / "name").write_text(name + "\n")
    (root / folder / "max_energy_range_uj").write_text(f"{LIMIT_UJ}\n")
    (root / folder / "energy_uj").write_text(f"{energy_uj}\n")
    return root / folder / "energy_uj"


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, memory of one, and zones that would count the same twice."""
    root = tmp_path / "powercap"
    zone(root, "intel-rapl:0", "package-0", 100)
    zone(root, "intel-rapl:0:0", "core", 40)
    zone(root, "intel-rapl:0:1", "dram", 10)
    zone(root, "intel-rapl:1", "package-1", 990)
    zone(root, "intel-rapl:2", "psys", 5000)
    zone(root, "intel-rapl-mmio:0", "package-0", 100)
    return root


def test_packages_and_their_memory_are_counted_once_each(powercap: Path) -> None:
    counters = find_counters(powercap)
    assert [counter.name for counter in counters] == ["package-0", "dram", "package-1"]
    assert read_uj(counters) == [100, 10, 990]


def test_a_counter_that_starts_again_is_followed(powercap: Path) -> None:
    counters = find_counters(powercap)
    before = read_uj(counters)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("160\n")
    (powercap / "intel-rapl:1" / "energy_uj").write_text("20\n")
    assert spent_uj(counters, before, read_uj(counters)) == 60 + 0 + (20 + LIMIT_UJ - 990)


def test_without_counters_there_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(NoCounters, match="shows no energy counters"):
        find_counters(tmp_path)
    with pytest.raises(NoCounters, match="shows no energy counters"):
        find_counters(tmp_path / "nothing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_counters_that_only_root_may_read_are_a_reason(powercap: Path) -> None:
    (powercap / "intel-rapl:0" / "energy_uj").chmod(0)
    with pytest.raises(NoCounters, match="energy_uj cannot be read: Permission denied"):
        find_counters(powercap)


def test_a_counter_that_cannot_be_read_is_a_reason(powercap: Path) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.unlink()
    file.mkdir()
    with pytest.raises(NoCounters, match="energy_uj cannot be read: Is a directory"):
        find_counters(powercap)


def timed_with(spent_uj: list[list[int]]) -> Timed:
    """Two inferences of 1 ms in each turn."""
    visits = []
    for turns in spent_uj:
        visit = Visit({"no_energy": None, "load_ms": 1.0, "first_ms": 1.0}, memory={"missing": "not looked at"})
        visit.turns = [{"times_ms": [1.0, 1.0], "energy_uj": spent, "preempted": 0, "waited": 0.0} for spent in turns]
        visits.append(visit)
    return Timed(visits)


def test_energy_is_per_inference_and_the_median_of_the_rounds() -> None:
    settings = LatencySettings()
    found = findings(timed_with([[3000, 4000], [4000, 90_000]]), Missing("no baseline"), settings)["energy_mj"]
    assert not isinstance(found, Missing)
    assert found.value == 2.0
    stuck = findings(timed_with([[3000, 0], [4000, 4000]]), Missing("no baseline"), settings)["energy_mj"]
    assert isinstance(stuck, Missing)
    assert "did not move" in stuck.reason


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


def test_the_doctor_is_told_of_counters_or_why_there_are_none(powercap: Path, tmp_path: Path) -> None:
    [found] = checkups.energy(powercap)
    assert found.text == "energy counters of package-0, dram, package-1: 0.0 W while nothing is measured"
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
