"""What the times, the memory and the energy of one file come to, or why something of it is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from pqd_measure import TIMED_METRICS, LatencySettings, estimates
from pqd_measure.energy import LEAST_TICKS, TICK_MS
from pqd_measure.estimates import Estimate
from pqd_measure.side_by_side import Timed

PAGE = 4096
"""Memory is counted in pages; less than one is none that could be seen."""
BUSY = 0.2
"""A larger share of disturbed turns is worth a word."""
ISOLATION = "fresh processes for each file, one after the other; all files in rounds of shuffled order"
HOW = {
    "load_ms": "the runtime imported, the file in the page cache",
    "first_ms": "the first inference of a fresh process",
    "memory_bytes": "what opening and running the file adds to its process; the runtime's own code left out",
    "energy_mj": "of all packages and their memory while inferences were timed; what the idle machine takes is in it",
    "latency_ratio": "round by round against the baseline",
}


@frozen
class Missing:
    """Why a number is not known; a true `error` if it failed rather than does not apply."""

    reason: str
    error: bool = False


Found = Estimate | Missing
SCALED = ("latency_ms", "latency_p95_ms", "throughput_ips")
"""What follows from times alone, so that it is brought to one scale with other groups'."""


def findings(timed: Timed, reference: Timed | Missing, settings: LatencySettings) -> dict[str, Found]:
    """Each metric's estimate, or why there is none; `reference` is what `latency_ratio` is against."""
    if timed.failure is not None:
        return {metric.name: Missing(timed.failure, error=True) for metric in TIMED_METRICS}
    times_ms, seed = timed.times_ms, settings.seed
    return {
        "latency_ms": estimates.latency(times_ms, seed).wider(timed.scale_reach),
        "latency_p95_ms": estimates.latency_p95(times_ms, seed).wider(timed.scale_reach),
        "latency_ratio": _ratio(timed, reference, seed),
        "throughput_ips": estimates.throughput(times_ms, settings.batch, seed).wider(timed.scale_reach),
        "load_ms": estimates.median(timed.each("load_ms"), seed),
        "first_ms": estimates.median(timed.each("first_ms"), seed),
        "memory_bytes": _memory(timed, seed),
        "energy_mj": _energy(timed, seed),
    }


def _ratio(timed: Timed, reference: Timed | Missing, seed: int) -> Found:
    if isinstance(reference, Missing):
        return reference
    if reference.failure is not None:
        return Missing(f"what it is compared with was not timed: {reference.failure}", error=True)
    return estimates.paired_ratio(timed.times_ms, reference.times_ms, seed)


def _memory(timed: Timed, seed: int) -> Found:
    told = [visit.memory for visit in timed.visits]
    if "missing" in told[0]:
        return Missing(told[0]["missing"])
    return estimates.median(np.array([max(one["memory_bytes"], PAGE) for one in told], float), seed)


def _energy(timed: Timed, seed: int) -> Found:
    if reason := next(filter(None, (visit.opened["no_energy"] for visit in timed.visits)), None):
        return Missing(reason)
    spent, turns_ms = timed.energy_mj, timed.times_ms.sum(2)
    if np.isnan(spent).any():
        return Missing("an energy counter could not be read any more during a turn")
    if (shortest := turns_ms.min()) < LEAST_TICKS * TICK_MS:
        why = f"a turn of {shortest:.1f} ms is too short for energy counters that move once in {TICK_MS:g} ms"
        return Missing(f"{why}; give more seconds, or a larger batch")
    if not (spent > 0).all():
        return Missing("the energy counters did not move during a turn, as in some virtual machines")
    return estimates.median(spent, seed)


def provenance(timed: Timed, settings: LatencySettings, threads: int) -> dict[str, Any]:
    """How a file's times came about, as it is kept with each of them."""
    visits = timed.visits
    warm, turns = [visit.warm for visit in visits], [turn for visit in visits for turn in visit.turns]
    return {
        "threads": threads,
        "batch": settings.batch,
        "processes": len(visits),
        "rounds": len(visits) * settings.rounds_each,
        "timed_per_round": timed.times_ms.shape[2],
        "steady": all(one["steady"] for one in warm),
        "warmup_inferences": sum(one["inferences"] for one in warm),
        "warmup_s": round(sum(one["seconds"] for one in warm), 3),
        "disturbed": timed.disturbed,
        "taken_again": sum(turn["takes"] - 1 for turn in turns),
        "preempted": sum(turn["preempted"] for turn in turns),
        "cpus": visits[0].opened["pinned"],
        "isolation": ISOLATION,
        "order_seed": settings.seed,
    }


def details(timed: Timed) -> Mapping[str, dict[str, Any]]:
    """What else is kept with one metric or another."""
    by_process = {key: timed.each(key).round(3).tolist() for key in ("import_ms", "load_ms", "first_ms")}
    medians = np.median(timed.times_ms, axis=2).round(4).tolist()
    return {
        **{metric: {"scale": timed.scale} for metric in SCALED},
        "latency_ms": {"scale": timed.scale, "round_medians_ms": medians},
        "load_ms": {"by_process_ms": by_process["load_ms"], "import_ms": by_process["import_ms"]},
        "first_ms": {"by_process_ms": by_process["first_ms"]},
        "memory_bytes": {"in_first_process": timed.visits[0].memory},
    }


def caution(timed: Timed, found: Mapping[str, Found], settings: LatencySettings) -> str | None:
    """A sentence if another measurement could come out far from this one."""
    if timed.disturbed > BUSY * sum(len(visit.turns) for visit in timed.visits):
        return f"other programs took the cores during more than {BUSY:.0%} of the turns, each taken again several times"
    for metric in ("latency_ratio", "latency_ms"):
        finding = found[metric]
        if isinstance(finding, Estimate):
            if finding.relative <= settings.noise_limit:
                return None
            return f"{metric} is noisy: another measurement may differ by more than {settings.noise_limit:.0%}"
    return None


def drift(timed: Timed, settings: LatencySettings) -> str | None:
    """A sentence if the machine's speed changed much from one group of files to another."""
    if abs(timed.scale - 1) <= settings.noise_limit:
        return None
    return (
        f"the machine's speed changed by more than {settings.noise_limit:.0%} from one group of files to another; "
        "times were brought to one scale by the dense network, which is in each"
    )
