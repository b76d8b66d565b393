"""Files that were timed side by side: which is faster, which cannot be told apart, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from attrs import define, field

from pqd_measure import LatencySettings
from pqd_measure.bench_files import BenchFile
from pqd_measure.estimates import SPREAD_IS, Estimate, paired_ratio
from pqd_measure.findings import Found, Missing, caution, findings, provenance
from pqd_measure.side_by_side import Timed
from pqd_measure.work import AT_MOST, Work


@define
class Comparison:
    """Files that were timed side by side, and what each is found to be."""

    files: Sequence[BenchFile]
    timed: Mapping[str, Timed]
    baseline: BenchFile
    settings: LatencySettings
    threads: int
    images: Path | None
    work: Mapping[str, Work | Missing]
    """What is run of each file that could be looked at."""
    found: dict[str, dict[str, Found]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        against = self.timed[self.baseline.label]
        self.found = {label: findings(timed, against, self.settings) for label, timed in self.timed.items()}

    @property
    def standing(self) -> list[BenchFile]:
        """The files that were timed, fastest first."""
        timed = [one for one in self.files if self.timed[one.label].failure is None]
        return sorted(timed, key=lambda one: self._value(one, "latency_ms"))

    def _value(self, one: BenchFile, metric: str) -> float:
        found = self.found[one.label][metric]
        assert isinstance(found, Estimate)
        return found.value

    def ratio(self, one: BenchFile, other: BenchFile) -> Estimate:
        """How long `one` takes in units of `other`, round by round."""
        return paired_ratio(self.timed[one.label].times_ms, self.timed[other.label].times_ms, self.settings.seed)

    @property
    def images_are(self) -> str:
        """What the files were fed."""
        if self.images is None:
            return "random numbers, standard normal; give --images where a network's speed depends on its input"
        return f"from {self.images}, normalized by their own mean and deviation if they are bytes"


def sentences(compared: Comparison) -> list[str]:
    """What the table says, what to be careful about, and how it was measured."""
    return [*_failures(compared), *_ranking(compared), *_in_float(compared), *_doubts(compared), *_how(compared)]


def _failures(compared: Comparison) -> Iterator[str]:
    for one in compared.files:
        if reason := compared.timed[one.label].failure:
            yield f"{one.label} was not measured: {reason}"


def _ranking(compared: Comparison) -> Iterator[str]:
    """Each file against the next faster one, and against the baseline where that is another."""
    standing = compared.standing
    pairs = [(slow, fast) for fast, slow in pairwise(standing)]
    if compared.baseline in standing:
        against = [(one, compared.baseline) for one in standing if one is not compared.baseline]
        pairs += [pair for pair in against if pair not in pairs and pair[::-1] not in pairs]
    for one, other in pairs:
        ratio = compared.ratio(one, other)
        reach = f"{ratio.low:.3f} to {ratio.high:.3f}"
        if ratio.low <= 1 <= ratio.high:
            yield f"{one.label} and {other.label} cannot be told apart: the ratio of their times is {reach}"
        else:
            word = "slower" if ratio.value > 1 else "faster"
            yield f"{one.label} is {word} than {other.label}: it takes {ratio.value:.3f} times as long ({reach})"


def _in_float(compared: Comparison) -> Iterator[str]:
    """What each file computes in float, operators with one reason together."""
    for one in compared.standing:
        work = compared.work[one.label]
        if isinstance(work, Missing):
            yield f"{one.label}: its share in INT8 is missing: {work.reason}"
            continue
        by_reason: dict[str, list[str]] = {}
        for who, why in work.in_float:
            by_reason.setdefault(why, []).append(who)
        for why, (first, *others) in by_reason.items():
            more = f", and so {_more(len(others), len(work.in_float))}" if others else ""
            yield f"{one.label}: {first}{more}: {why}"


def _more(count: int, in_float: int) -> str:
    """How many others, and where their names are; `in_float` are all that could be named."""
    do, them = ("does", "it") if count == 1 else ("do", "them")
    named = them if in_float <= AT_MOST else f"the first {AT_MOST} of {in_float} float operators"
    return f"{do} {count} more (--json names {named})"


def _doubts(compared: Comparison) -> Iterator[str]:
    standing = compared.standing
    for one in standing:
        if told := caution(compared.timed[one.label], compared.found[one.label], compared.settings):
            yield f"{one.label}: {told}; see that nothing else runs, or give more --rounds or --processes"
    hows = {one.label: provenance(compared.timed[one.label], compared.settings, compared.threads) for one in standing}
    if restless := [label for label, how in hows.items() if not how["steady"]]:
        yield f"the warm-up did not become steady for {', '.join(restless)}: the machine was busy"
    if standing and isinstance(energy := compared.found[standing[0].label]["energy_mj"], Missing):
        yield f"energy is missing: {energy.reason}"
    if standing and isinstance(memory := compared.found[standing[0].label]["memory_bytes"], Missing):
        yield f"memory is missing: {memory.reason}"


def _how(compared: Comparison) -> Iterator[str]:
    if not compared.standing:
        return
    settings, threads = compared.settings, "1 thread" if compared.threads == 1 else f"{compared.threads} threads"
    yield f"images: {compared.images_are}"
    yield (
        f"batch {settings.batch}, {threads}, {settings.processes} processes of each file, "
        f"{settings.processes * settings.rounds_each} rounds; ratios are to {compared.baseline.label}"
    )
    yield f"± is {SPREAD_IS}"
