"""How often the report's statistics are right, on made-up studies whose truth is known.

    python benchmarks/statistics_check.py

Six orders of three stages; pipelines with the same first stage share that stage's noise, as they share its training.
`shared` is that noise's standard deviation in units of the other noise. Takes a few minutes of one core.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from evidence import write_result

from pqd_core.host.analysis.orders import RISK
from pqd_core.host.analysis.statistics import (
    bootstrap_interval,
    corrected,
    seed_noise,
    shuffled_orders,
    student_interval,
)

FIRST = [0, 0, 1, 1, 2, 2]
"""Which of three first stages each of the six orders begins with."""


def study(rng: np.random.Generator, seeds: int, shared: float, effect: float) -> np.ndarray:
    """Accuracies (seeds, orders) in units of the unshared noise; the first order is better by `effect`."""
    table = rng.normal(size=(seeds, len(FIRST))) + shared * rng.normal(size=(seeds, 3))[:, FIRST]
    table[:, 0] += effect
    return table


def matters(table: np.ndarray) -> bool:
    """Whether the report would say that order matters."""
    means = table.mean(0)
    return shuffled_orders(table.tolist()) <= RISK and np.ptp(means) > seed_noise(table.tolist())


def share_found(repeats: int, seeds: int, shared: float, effect: float) -> float:
    """How often the report says that order matters."""
    rng = np.random.default_rng(0)
    return float(np.mean([matters(study(rng, seeds, shared, effect)) for _ in range(repeats)]))


def findings(repeats: int, seeds: int, tests: int, real: int, shared: float) -> dict[str, float]:
    """Of studies with so many tests, `real` of them of an effect, by p alone and by the corrected one: how many have a
    false finding, the mean share of a study's findings that are false, and the share of effects that are found."""
    rng, found = np.random.default_rng(0), {"alone": np.zeros(3), "corrected": np.zeros(3)}
    for _ in range(repeats):
        tables = [study(rng, seeds, shared, 6.0 * (i < real)) for i in range(tests)]
        beyond = np.array([np.ptp(table.mean(0)) > seed_noise(table.tolist()) for table in tables])
        ps = [shuffled_orders(table.tolist()) for table in tables]
        for name, read in (("alone", ps), ("corrected", corrected(ps))):
            says = beyond & (np.array(read) <= RISK)
            found[name] += says[real:].any(), says[real:].sum() / max(1, says.sum()), says[:real].sum() / max(1, real)
    told = ("studies with a false finding", "false share of a study's findings", "effects found")
    return {
        f"{words}, {name}": float(total / repeats)
        for name, totals in found.items()
        for words, total in zip(told, totals, strict=True)
    }


def largest(repeats: int, seeds: int) -> dict[str, float]:
    """How often an interval of the largest of fifteen differences, none of which is real, holds none."""
    rng, held = np.random.default_rng(0), dict[str, list[bool]](bootstrap=[], tukey=[])
    for _ in range(repeats):
        table = study(rng, seeds, 0.0, 0.0)
        low, high = table.mean(0).argmin(), table.mean(0).argmax()
        interval = bootstrap_interval(tuple((table[:, high] - table[:, low]).tolist()))
        held["bootstrap"].append(interval is None or interval[0] <= 0)
        held["tukey"].append(float(np.ptp(table.mean(0))) <= seed_noise(table.tolist()))
    return {name: float(np.mean(found)) for name, found in held.items()}


def coverage(repeats: int, seeds: int) -> dict[str, float]:
    """How often each 95 % interval of a mean over seeds holds the true one."""
    samples = np.random.default_rng(0).normal(size=(repeats, seeds))
    found: dict[str, list[bool]] = {"bootstrap": [], "student": []}
    for sample in map(tuple, samples.tolist()):
        for name, interval in (("bootstrap", bootstrap_interval(sample)), ("student", student_interval(sample))):
            if interval:
                found[name].append(interval[0] <= 0 <= interval[1])
    return {name: float(np.mean(held)) for name, held in found.items() if held}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=600)
    repeats = parser.parse_args().repeats
    numbers: dict[str, Any] = {
        "repeats": repeats,
        "coverage": {str(seeds): coverage(repeats, seeds) for seeds in (2, 3, 5, 10)},
        "interval of the largest difference": {str(seeds): largest(repeats, seeds) for seeds in (3, 5)},
        "false findings": [
            {"seeds": s, "tests": n, "real": real, "shared": shared, **findings(repeats // 2, s, n, real, shared)}
            for s in (3, 5)
            for n, real in ((4, 0), (4, 2), (12, 0), (12, 4))
            for shared in (0.0, 1.0)
        ],
        "says that order matters": [
            {"seeds": n, "shared": s, "effect": e, "share": share_found(repeats, n, s, e)}
            for n in (2, 3, 5)
            for s, e in ((0.0, 0.0), (1.0, 0.0), (3.0, 0.0), (0.0, 2.0), (0.0, 4.0), (1.0, 4.0))
        ],
    }
    write_result("statistics_check", numbers, threads=1, seeds=[0])


if __name__ == "__main__":
    main()
