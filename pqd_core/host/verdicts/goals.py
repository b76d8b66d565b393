"""Who wins under a goal, and who misses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pqd_core.host.analysis.goals import ACCURACY, Candidate, GoalOutcome
from pqd_core.host.rows import in_words
from pqd_core.host.verdicts.pipelines import change_in_words
from pqd_core.host.words import by_runtime, quantity, short_metric


def goal_verdicts(outcomes: Sequence[GoalOutcome]) -> Iterator[str]:
    """One sentence for each goal, over all of its runtimes."""
    goals: dict[tuple[str, float | None], list[GoalOutcome]] = {}
    for outcome in outcomes:
        goals.setdefault((outcome.metric, outcome.max_accuracy_drop), []).append(outcome)
    for group in goals.values():
        candidates = [candidate for outcome in group for candidate in outcome.candidates]
        missed = [candidate for candidate in candidates if candidate.missed_by is not None]
        won = by_runtime({o.winner.runtime: _won(o.winner, o.unit) for o in group if o.winner})
        told = f"{won}; {_misses(missed, len(candidates))}" if won else f"no pipeline meets it{_nearest(missed)}"
        yield f"goal, {_asked(group[0])}: {told}"


def _asked(outcome: GoalOutcome) -> str:
    best = f"the best {short_metric(outcome.metric)}"
    if outcome.max_accuracy_drop is None:
        return best
    images = "the images held out" if outcome.judged_on != ACCURACY else "the test images, as none were held out"
    return f"{best} with at most {outcome.max_accuracy_drop * 100:.2f} points of accuracy lost on {images}"


def _won(winner: Candidate, unit: str) -> str:
    value = "" if winner.value is None else f" with {quantity(winner.value, unit)}"
    change = f", {change_in_words(winner.change)}" if winner.change and winner.pipeline else ""
    return f"{in_words(winner.pipeline)} wins{value}{change}"


def _misses(missed: Sequence[Candidate], of: int) -> str:
    if not missed:
        return "none misses it"
    worst = max(missed, key=_miss)
    return f"{len(missed)} of {of} miss it, {_place(worst)} by most, {_miss(worst) * 100:.2f} points"


def _nearest(missed: Sequence[Candidate]) -> str:
    if not missed:
        return ", as numbers are missing"
    nearest = min(missed, key=_miss)
    return f"; {_place(nearest)} comes nearest, {_miss(nearest) * 100:.2f} points off"


def _miss(candidate: Candidate) -> float:
    return candidate.missed_by or 0.0


def _place(candidate: Candidate) -> str:
    return f"{in_words(candidate.pipeline)} on {candidate.runtime}"
