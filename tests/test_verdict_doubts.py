"""A caution that a measurer leaves with a number becomes a sentence of the report."""

from __future__ import annotations

from pathlib import Path

from pqd_core.host.rows import Metric, Row
from pqd_core.host.verdicts.doubts import doubt_verdicts


def row(runtime: str, *cautions: str | None, pipeline: tuple[str, ...] = ("magnitude",)) -> Row:
    metrics = {
        f"m{index}": Metric(value=1, unit="ms", better="lower", provenance={"caution": caution} if caution else {})
        for index, caution in enumerate(cautions)
    }
    return Row(pipeline=pipeline, seed=0, runtime=runtime, file=Path(), step="", parity={}, metrics=metrics)


def test_a_caution_is_told_once_with_where_it_holds() -> None:
    rows = [row("a", "it is noisy", "it is noisy"), row("b", None), row("c", "it is noisy", "it is hot")]
    assert list(doubt_verdicts(rows)) == [
        "caution: it is noisy (magnitude on a, magnitude on c)",
        "caution: it is hot (magnitude on c)",
    ]


def test_of_many_places_a_few_are_named() -> None:
    [sentence] = doubt_verdicts([row(name, "it is noisy") for name in "abcde"])
    assert sentence == "caution: it is noisy (magnitude on a, magnitude on b, magnitude on c and 2 more)"


def test_without_cautions_nothing_is_said() -> None:
    assert list(doubt_verdicts([row("a", None)])) == []
