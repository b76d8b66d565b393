"""What follows from times: the value, and an interval in which another measurement finds its own."""

from __future__ import annotations

import numpy as np
import pytest

from pqd_measure.estimates import Floats, latency, latency_p95, paired_ratio, throughput


def times_of(processes: int = 6, rounds: int = 3, inferences: int = 9, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).gamma(4, 1, (processes, rounds, inferences))


def test_estimates_are_the_statistics_of_all_times() -> None:
    times_ms = times_of()
    assert latency(times_ms, 0).value == np.median(times_ms)
    assert latency_p95(times_ms, 0).value == np.percentile(times_ms, 95)
    assert throughput(times_ms, 8, 0).value == pytest.approx(8 * times_ms.size / (times_ms.sum() / 1e3))


def test_a_drift_of_the_machine_cancels_in_the_paired_ratio_only() -> None:
    drift = np.linspace(1, 10, 18).reshape(6, 3, 1) * np.ones((1, 1, 8))
    ratio = paired_ratio(0.5 * drift, drift, seed=0)
    assert ratio.value == pytest.approx(0.5)
    assert ratio.spread < 1e-9
    assert latency(drift, seed=0).spread > 1


def test_an_interval_contains_its_value_and_the_same_seed_gives_the_same() -> None:
    found = latency(times_of(), 5)
    assert 0 < found.low < found.value < found.high
    assert found == latency(times_of(), 5)


def test_more_inferences_or_rounds_of_the_same_processes_do_not_narrow_the_interval() -> None:
    level = np.random.default_rng(0).normal(10, 1, (6, 1, 1))
    few, many = latency(level * np.ones((1, 3, 2)), 0).spread, latency(level * np.ones((1, 9, 90)), 0).spread
    assert many == pytest.approx(few)
    assert many > 0.2


def test_times_that_never_differ_have_no_spread() -> None:
    assert latency(np.full((5, 2, 2), 3.0), 0).spread == 0


@pytest.mark.parametrize("processes", [4, 10])
def test_nineteen_of_twenty_measurements_find_their_ratio_in_the_interval_of_one_before(processes: int) -> None:
    """Processes differ by 2 %, their rounds by 3 %, as measured; an interval of the median alone misses a fifth."""
    rng = np.random.default_rng(1)
    ones, missed, tries = np.ones((processes, 3, 1)), 0, 200

    def measured() -> Floats:
        return np.exp(rng.normal(0, 0.02, (processes, 1, 1)) + rng.normal(0, 0.03, (processes, 3, 1)))

    for _ in range(tries):
        interval, again = paired_ratio(measured(), ones, seed=0), np.median(measured())
        missed += not interval.low <= again <= interval.high
    assert 0.005 * tries <= missed <= 0.09 * tries
