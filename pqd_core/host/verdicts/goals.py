"""Who wins under a goal, and who misses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pqd_core.host.analysis.goals import ACCURACY, Candidate, GoalOutcome
from pqd_core.host.rows import in_words
from pqd_core.host.verdicts.pipelines import change_in_words
from pqd_core.host.words import by_runtime, quantity, short_metric

NAMED = 3
"""So many pipelines that lack seeds are named."""


def goal_verdicts(outcomes: Sequence[GoalOutcome]) -> Iterator[str]:
    """One sentence for each goal, over all of its runtimes."""
    goals: dict[tuple[str, float | None], list[GoalOutcome]] = {}
    for outcome in outcomes:
        goals.setdefault((outcome.metric, outcome.max_accuracy_drop), []).append(outcome)
    for group in goals.values():
        candidates = [candidate for outcome in group for candidate in outcome.candidates]
        won = by_runtime({o.winner.runtime: _won(o.winner, o) for o in group if o.winner})
        if won:
            nowhere = [f"no pipeline meets it on {o.runtime}{_nearest(o.candidates)}" for o in group if not o.winner]
            told = "; ".join([won, *nowhere, _misses(candidates)])
        else:
            told = f"no pipeline meets it{_nearest(candidates)}"
        yield f"goal, {_asked(group[0])}: {told}"


def _asked(outcome: GoalOutcome) -> str:
    best = f"the best {short_metric(outcome.metric)}"
    if outcome.max_accuracy_drop is None:
        return best
    images = "the images held out" if outcome.judged_on != ACCURACY else "the test images, as none were held out"
    return f"{best} with at most {outcome.max_accuracy_drop * 100:.2f} points of accuracy lost on {images}"


def _won(winner: Candidate, outcome: GoalOutcome) -> str:
    value = "" if winner.value is None else f" with {quantity(winner.value, outcome.unit)}{_as_good(outcome)}"
    change = f", {change_in_words(winner.change)}" if winner.change and winner.pipeline else ""
    return f"{in_words(winner.pipeline)} wins{value}{change}"


def _as_good(outcome: GoalOutcome) -> str:
    """Which others the winner cannot be told from; the best of them by its name."""
    if not outcome.as_good:
        return ""
    first, more = outcome.as_good[0], len(outcome.as_good) - 1
    who = f"{'the runner-up ' if first == outcome.runner_up else ''}{in_words(first.pipeline)}"
    rest = f", and of {more} more" if more else ""
    return f" (within the noise of {who}, {quantity(first.value or 0.0, outcome.unit)}{rest})"


def _misses(candidates: Sequence[Candidate]) -> str:
    missed = [c for c in candidates if c.missed_by is not None or c.incomplete]
    if not missed:
        return "none misses it" if all(c.met for c in candidates) else "of the others numbers are missing"
    worst = max(missed, key=_miss)
    most = f", {_place(worst)} by most, {_miss(worst) * 100:.2f} points" if _miss(worst) else ""
    return f"{len(missed)} of {len(candidates)} miss it{most}{_incomplete(missed)}"


def _incomplete(candidates: Sequence[Candidate]) -> str:
    parts = [f"{_place(c)} (incomplete: {c.incomplete})" for c in candidates if c.incomplete]
    more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return f"; out of it, {', '.join(parts[:NAMED])}{more}" if parts else ""


def _nearest(candidates: Sequence[Candidate]) -> str:
    missed = [c for c in candidates if c.missed_by is not None]
    if not missed:
        return _incomplete(candidates) or ", as numbers are missing"
    nearest = min(missed, key=_miss)
    return f"; {_place(nearest)} comes nearest, {_miss(nearest) * 100:.2f} points off{_incomplete(candidates)}"


def _miss(candidate: Candidate) -> float:
    return candidate.missed_by or 0.0


def _place(candidate: Candidate) -> str:
    return f"{in_words(candidate.pipeline)} on {candidate.runtime}"
