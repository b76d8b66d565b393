"""What follows from the times of many rounds, and which files are timed side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from measure_kit import deployed

from pqd_measure import LatencySettings
from pqd_measure.cores import pick_cpus
from pqd_measure.estimates import Estimate
from pqd_measure.findings import SCALED, findings
from pqd_measure.latency import on_first_scale, reference_of
from pqd_measure.rounds import groups_with_references, shuffled_rounds
from pqd_measure.side_by_side import Timed, Visit
from pqd_measure.worker import Bench, is_steady


def timed(level_ms: float) -> Timed:
    """Three processes of five turns whose median is `level_ms`."""
    turns = [{"times_ms": [level_ms * share for share in (0.9, 1.0, 1.3)], "waited": 0.0, "energy_uj": None}] * 5
    opened = {"load_ms": 1.0, "first_ms": 1.0, "no_energy": "no counters"}
    return Timed([Visit(opened, turns=turns, memory={"memory_bytes": 1e6}) for _ in range(3)])


def test_every_round_holds_every_candidate_once_in_an_order_of_its_own() -> None:
    orders = list(shuffled_rounds("abcdef", 20, seed=1))
    assert all(sorted(order) == list("abcdef") for order in orders)
    assert len({tuple(order) for order in orders}) > 10
    assert orders == list(shuffled_rounds("abcdef", 20, seed=1))
    assert orders != list(shuffled_rounds("abcdef", 20, seed=2))


def test_groups_hold_every_candidate_beside_its_reference_and_stay_small() -> None:
    references = [0, 0, 3, 3, 3, 3, 0, None]
    groups = groups_with_references(references, at_once=3)
    assert all(len(group) <= 3 for group in groups)
    for index, reference in enumerate(references):
        assert any({index, reference} - {None} <= set(group) for group in groups)
    assert groups_with_references(references, at_once=16) == [list(range(8))]


def test_groups_are_of_much_the_same_size() -> None:
    groups = groups_with_references([0] * 18, at_once=16)
    assert [len(group) for group in groups] == [10, 9]


def test_a_group_that_was_timed_at_a_slower_clock_is_brought_to_the_scale_of_the_first() -> None:
    first: dict[int, Timed] = {}
    references = [0, 0, 0, None]
    before = on_first_scale({0: timed(1.0), 1: timed(0.8)}, references, first, 0)
    after = on_first_scale({0: timed(1.5), 2: timed(1.2), 3: timed(3.0)}, references, first, 0)
    assert [np.median(before[i].times_ms) for i in (0, 1)] == pytest.approx([1.0, 0.8])
    assert [np.median(after[i].times_ms) for i in (0, 2, 3)] == pytest.approx([1.0, 0.8, 3.0])
    assert [after[i].scale for i in (0, 2, 3)] == pytest.approx([1 / 1.5, 1 / 1.5, 1.0])
    found = findings(after[2], after[0], LatencySettings())["latency_ratio"]
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(0.8)


def test_the_interval_of_a_file_of_a_later_group_knows_that_its_scale_may_be_off() -> None:
    found = findings(evolve(timed(1.0), scale_reach=0.1), timed(1.0), LatencySettings())
    for metric in SCALED:
        one = found[metric]
        assert isinstance(one, Estimate)
        assert one.high / one.value >= np.exp(0.1) - 1e-9
    ratio = found["latency_ratio"]
    assert isinstance(ratio, Estimate)
    assert ratio.high / ratio.value < 1.01


def test_nothing_is_scaled_by_a_network_that_could_not_be_timed() -> None:
    lost = Timed(failure="the file was lost")
    found = on_first_scale({0: lost, 1: timed(2.0)}, [0, 0], {}, 0)
    assert found[0].failure
    assert found[1].scale == 1.0


def test_the_reference_is_the_dense_network_of_the_same_runtime_settings_and_seed(tmp_path: Path) -> None:
    dense = deployed(tmp_path, "dense")
    candidates = [
        evolve(dense, runtime="other"),
        evolve(dense, seed=1),
        evolve(dense, settings=None),
        dense,
        evolve(dense, pipeline=("magnitude",)),
        evolve(dense, pipeline=("magnitude",), seed=1),
        evolve(dense, pipeline=("magnitude",), seed=2),
        evolve(dense, pipeline=("magnitude",), runtime="third"),
    ]
    assert [reference_of(one, candidates) for one in candidates] == [0, 1, 2, 3, 3, 1, 1, None]


def test_times_are_steady_once_three_blocks_in_a_row_agree() -> None:
    assert not is_steady([], 0.05)
    assert not is_steady([1.0, 1.0], 0.05)
    assert not is_steady([1.0, 1.0, 1.06], 0.05)
    assert is_steady([9.0, 1.0, 1.04, 1.0], 0.05)


def test_a_warm_up_goes_on_until_steady_or_says_that_it_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cooling = iter([5.0, 3.0, 2.0, 1.0, 1.0, 1.01, 0.5])
    monkeypatch.setattr(Bench, "_block_ms", lambda bench: [next(cooling)] * 4)
    found = Bench().warm(limit_s=60, tolerance=0.05)
    assert (found["steady"], found["inferences"], found["median_ms"]) == (True, 24, 1.01)

    growing = iter(np.geomspace(1, 1e300, 100_000))
    monkeypatch.setattr(Bench, "_block_ms", lambda bench: [float(next(growing))])
    assert not Bench().warm(limit_s=0.01, tolerance=0.001)["steady"]


def test_one_cpu_of_each_physical_core_is_taken_first(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    assert pick_cpus(2, {0, 1, 2, 3}, tmp_path) == [0, 2]
    assert pick_cpus(3, {0, 1, 2, 3}, tmp_path) == [0, 2, 1]
    assert pick_cpus(2, {1, 3}, tmp_path) == [1, 3]
    assert pick_cpus(8, {0, 1}, tmp_path) == [0, 1]


def test_without_a_known_topology_the_first_cpus_are_taken(tmp_path: Path) -> None:
    assert pick_cpus(2, {4, 6, 5}, tmp_path) == [4, 5]
