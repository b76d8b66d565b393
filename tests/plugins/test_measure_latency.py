"""Latency is measured in processes of their own, in turns, and one that fails fails alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measure_kit import SHAPE, context_of, deployed, seen_by, some_data

from pqd_core import Deployed, Measurement
from pqd_measure import LatencySettings, side_by_side
from pqd_measure.cells import number
from pqd_measure.latency import measure, save_images
from pqd_measure.process import Worker, WorkerFailed

QUICK: dict[str, Any] = {"seconds": 0.2, "processes": 2, "rounds": 6, "warmup_s": 0.2, "limit_s": 60}
Row = dict[str, Measurement]


def timed(candidates: Sequence[Deployed], scratch: Path, **settings: Any) -> list[Row]:
    (scratch / "scratch").mkdir()
    context = context_of(some_data(), scratch / "scratch", **settings.pop("context", {}))
    rows = measure(candidates, LatencySettings(**QUICK | settings), context)
    return [{cell.metric: cell for cell in row} for row in rows]


def value(cell: Measurement) -> float:
    assert cell.value is not None, cell.missing
    return cell.value


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_file_that_takes_ten_times_as_long_is_measured_so(tmp_path: Path) -> None:
    slow = deployed(tmp_path, "slow", sleep_ms=20)
    fast = deployed(tmp_path, "fast", ("magnitude",), sleep_ms=2)
    # The fake file is told by its settings how long to sleep, so the two have different ones; a real one would not.
    of_slow, of_fast = timed([slow, fast], tmp_path)
    assert value(of_slow["latency_ms"]) >= 20
    assert 2 <= value(of_fast["latency_ms"]) < value(of_slow["latency_ms"]) / 2
    assert value(of_fast["latency_p95_ms"]) >= value(of_fast["latency_ms"])
    assert value(of_fast["throughput_ips"]) > 2 * value(of_slow["throughput_ips"])
    assert of_fast["latency_ms"].n == of_fast["latency_ms"].provenance["timed_per_round"] * 6


class SleepByName:
    """Context whose worker settings differ while the deployments' own are equal, as those of one runtime are."""

    @staticmethod
    def worker(one: Deployed) -> tuple[str, str, Any]:
        from linear_runtime import LinearSettings

        return "linear_runtime", str(one.file), LinearSettings(sleep_ms=float(one.step_key.split("-")[1]))


def test_the_ratio_is_against_the_dense_network(tmp_path: Path) -> None:
    dense, half, twice = (
        deployed(tmp_path, name, pipeline)
        for name, pipeline in (("d-10", ()), ("h-3", ("magnitude",)), ("t-30", ("logit-kd",)))
    )
    rows = timed([dense, half, twice], tmp_path, context={"worker": SleepByName.worker})
    ratios = [value(row["latency_ratio"]) for row in rows]
    assert ratios[0] == 1
    assert ratios[1] < 0.7
    assert ratios[2] > 1.5
    assert rows[1]["latency_ratio"].n == 6


def test_without_a_dense_network_only_the_ratio_is_missing(tmp_path: Path) -> None:
    [row] = timed([deployed(tmp_path, "one", ("magnitude",))], tmp_path)
    assert row["latency_ratio"].missing == "no dense network was deployed to linear to compare with"
    assert value(row["latency_ms"]) > 0


def test_candidates_take_turns_in_every_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    take_turn = side_by_side._take_turn

    def noted(candidate: side_by_side._Candidate, settings: LatencySettings) -> None:
        taken.append(candidate.subject.file.parent.name)
        take_turn(candidate, settings)

    monkeypatch.setattr(side_by_side, "_take_turn", noted)
    timed([deployed(tmp_path, name) for name in "abc"], tmp_path, rounds=8)
    rounds = [taken[start : start + 3] for start in range(0, len(taken), 3)]
    assert len(rounds) == 8
    assert all(sorted(members) == ["a", "b", "c"] for members in rounds)
    assert len({tuple(members) for members in rounds}) > 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises on opening", "ValueError: this file is of another version"),
        ("raises", "RuntimeError: the runtime gave up"),
        ("crashes", "its process was ended by SIGSEGV during warm-up"),
        ("exits", "its process exited with status 3 during warm-up: assertion failed in kernel 7"),
    ],
)
def test_a_candidate_that_fails_fails_alone(tmp_path: Path, how: str, reason: str) -> None:
    good, bad = deployed(tmp_path, "good"), deployed(tmp_path, "bad", ("magnitude",), fails=how)
    of_bad, of_good = timed([bad, good], tmp_path)
    assert value(of_good["latency_ms"]) > 0
    assert {cell.missing for cell in of_bad.values()} == {reason}
    assert all(cell.value is None and cell.provenance["error"] for cell in of_bad.values())


def test_a_candidate_that_hangs_is_ended_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Worker.ask

    def impatient(self: Worker, task: str, patience_s: float, **arguments: Any) -> dict[str, Any]:
        return patient(self, task, 2 if task == "warm" else patience_s, **arguments)

    monkeypatch.setattr(Worker, "ask", impatient)
    good, bad = deployed(tmp_path, "good"), deployed(tmp_path, "bad", fails="hangs")
    of_bad, of_good = timed([bad, good], tmp_path)
    assert of_bad["latency_ms"].missing == "gave no answer within 2 s of warm-up; its process was ended"
    assert value(of_good["latency_ms"]) > 0
    assert not is_running(seen_by(bad)["pid"])


def test_when_the_dense_network_fails_the_others_lose_only_their_ratio(tmp_path: Path) -> None:
    dense, pruned = deployed(tmp_path, "dense"), deployed(tmp_path, "pruned", ("magnitude",))

    def worker(one: Deployed) -> tuple[str, str, Any]:
        if one is dense:
            raise LookupError("it was made in a notebook")
        return "linear_runtime", str(one.file), one.settings

    of_dense, of_pruned = timed([dense, pruned], tmp_path, context={"worker": worker})
    assert of_dense["latency_ms"].missing == "cannot be opened in a process of its own: it was made in a notebook"
    assert value(of_pruned["latency_ms"]) > 0
    assert str(of_pruned["latency_ratio"].missing).startswith(
        "what it is compared with was not timed: cannot be opened"
    )


def test_a_disturbed_turn_is_taken_again_and_the_calmest_counts_whatever_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, ask = iter([0.0, 0.5, 0.2, 0.3, 0.005, *[0.4, 0.1, 0.2, 0.3], *[0.0] * 99]), Worker.ask

    def disturbed(self: Worker, task: str, patience_s: float, **arguments: Any) -> dict[str, Any]:
        answer = ask(self, task, patience_s, **arguments)
        return answer | {"waited": next(waited)} if task == "turn" else answer

    monkeypatch.setattr(Worker, "ask", disturbed)
    [row] = timed([deployed(tmp_path, "one", sleep_ms=1)], tmp_path)
    how = row["latency_ms"].provenance
    assert next(waited) == 0
    assert how["taken_again"] == 3 + 3, "three times at most; nothing after a calm one"
    assert how["disturbed"] == 1, "the third turn, at 0.1"
    assert "caution" not in how or "other programs" not in how["caution"]


def test_a_machine_that_is_busy_all_the_time_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "DISTURBED", -1.0)
    [row] = timed([deployed(tmp_path, "one", sleep_ms=1)], tmp_path, retakes=1)
    how = row["latency_ms"].provenance
    assert how["disturbed"] == how["rounds"] == how["taken_again"] == 6
    assert how["caution"].startswith("other programs took the cores during more than 20% of the turns")


def test_an_interrupt_ends_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [deployed(tmp_path, name) for name in "ab"]

    def interrupted(candidate: side_by_side._Candidate, settings: LatencySettings) -> None:
        assert all(is_running(seen_by(one)["pid"]) for one in candidates)
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "_take_turn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        timed(candidates, tmp_path)
    assert not any(is_running(seen_by(one)["pid"]) for one in candidates)


def test_a_worker_ends_by_itself_when_its_parent_is_gone(tmp_path: Path) -> None:
    with Worker(tmp_path / "log", threads=1) as worker:
        with pytest.raises(WorkerFailed, match="FileNotFoundError"):
            worker.ask(
                "open",
                60,
                load="linear_runtime",
                file="",
                settings=None,
                settings_type=None,
                images=str(tmp_path / "missing.npy"),
                batch=1,
                threads=1,
                cpus=[0],
                limit_mb=1024,
                powercap="",
            )
        worker._pipe.close()
        assert worker._process.wait(timeout=30) == 0


def test_a_worker_sees_its_own_threads_cpus_and_settings_and_no_torch(tmp_path: Path) -> None:
    one = deployed(tmp_path, "one", sleep_ms=1)
    [row] = timed([one], tmp_path, threads=1, batch=4)
    seen = seen_by(one)
    assert seen["pid"] != os.getpid()
    assert not seen["torch"]
    assert (seen["openmp"], seen["openblas"]) == ("1", "1")
    assert (seen["threads"], seen["batch"], seen["settings"]) == (1, 4, "LinearSettings")
    assert seen["cpus"] == row["latency_ms"].provenance["cpus"]
    assert len(seen["cpus"]) == 1


def test_more_candidates_than_fit_at_once_are_timed_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    together = side_by_side.time_side_by_side

    def noted(group: dict[int, side_by_side.Subject], *about: Any) -> dict[int, side_by_side.Timed]:
        sizes.append(len(group))
        return together(group, *about)

    monkeypatch.setattr("pqd_measure.latency.time_side_by_side", noted)
    candidates = [deployed(tmp_path, name, pipeline) for name, pipeline in (("d", ()), ("a", ("x",)), ("b", ("y",)))]
    rows = timed(candidates, tmp_path, at_once=2)
    assert sizes == [2, 2]
    assert all(value(row["latency_ratio"]) > 0 for row in rows)


@pytest.mark.parametrize(("batch", "test", "expected"), [(1, 150, 64), (48, 150, 48), (100, 150, 100), (200, 150, 200)])
def test_real_test_images_are_fed_normalized_in_whole_batches(
    tmp_path: Path, batch: int, test: int, expected: int
) -> None:
    data = some_data(test=test)
    images = np.load(save_images(context_of(data, tmp_path), batch))
    assert images.shape == (expected, *SHAPE)
    assert images.dtype == np.float32
    by_hand = (data.test.images[:50].astype(np.float32) / 255 - 0.5) / 0.25  # type: ignore[union-attr]
    np.testing.assert_allclose(images[: min(50, expected)], by_hand[:expected], rtol=1e-5, atol=1e-6)
    if expected > test:
        np.testing.assert_array_equal(images[test:], images[: expected - test])


def test_what_a_number_rests_on_is_told_and_fits_into_json(tmp_path: Path) -> None:
    [row] = timed([deployed(tmp_path, "one", sleep_ms=1)], tmp_path, rounds=6)
    how = json.loads(json.dumps(dict(row["latency_ms"].provenance)))
    assert (how["batch"], how["threads"], how["rounds"], np.shape(how["round_medians_ms"])) == (1, 1, 6, (2, 3))
    assert how["interval"][0] <= value(row["latency_ms"]) <= how["interval"][1]
    assert isinstance(how["steady"], bool)
    assert how["warmup_inferences"] > 0
    assert "95 % interval" in how["spread_is"]


def test_an_inference_of_a_slow_file_still_gets_two_times_per_round(tmp_path: Path) -> None:
    began = time.perf_counter()
    [row] = timed([deployed(tmp_path, "one", sleep_ms=60)], tmp_path, seconds=0.01)
    assert row["latency_ms"].n == 2 * 6
    assert time.perf_counter() - began < 60


def test_a_value_that_is_not_finite_is_missing() -> None:
    from pqd_measure import LATENCY

    found = number(LATENCY, float("nan"))
    assert (found.value, found.missing) == (None, "the measured value is nan")
