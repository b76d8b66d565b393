"""Order by facts: which stages may follow which, and why the others may not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from pqd_core.facts import BASELINE_FACTS
from pqd_core.host.entries import Entry
from pqd_core.host.errors import PlanError, Problem


def check_order(stages: Sequence[Entry]) -> None:
    """Each stage finds the facts it needs.

    Raises:
        PlanError: naming the step, the fact, the step that ended it, and the nearest legal order.
    """
    if reason := why_illegal(stages):
        position = next(_broken(stages))[0]
        raise PlanError(Problem(f"stages.{position}.{stages[position].name}", reason, _advice(stages)))


def why_illegal(stages: Sequence[Entry]) -> str | None:
    """The first step that cannot run, the fact it lacks and who ended that, in words; None if all can run."""
    broken = next(_broken(stages), None)
    if broken is None:
        return None
    position, fact, ender = broken
    who = "no step before it gives" if ender is None else f"step {ender + 1}, {stages[ender].name}, ended"
    return f"step {position + 1}, {stages[position].name}, needs a model that is {fact}, which {who}"


def _broken(stages: Sequence[Entry]) -> Iterator[tuple[int, str, int | None]]:
    """(position, fact it lacks, position of the stage that ended the fact) of each stage that cannot run."""
    facts, ended = BASELINE_FACTS, dict[str, int]()
    for position, stage in enumerate(stages):
        for fact in stage.record.needs:
            if fact not in facts:
                yield position, fact, ended.get(fact)
        after = stage.record.after(facts)
        ended.update(dict.fromkeys(facts - after, position))
        facts = after


def _advice(stages: Sequence[Entry]) -> str:
    order = nearest_legal_order(stages)
    if order is None:
        return "no order of these stages is legal; leave one out"
    return f"the nearest legal order is {in_words(stages, order)}; 'study: auto' takes it"


def in_words(stages: Sequence[Entry], order: Sequence[int]) -> str:
    """`cut -> trace`."""
    return " -> ".join(stages[i].name for i in order)


def nearest_legal_order(stages: Sequence[Entry]) -> tuple[int, ...] | None:
    """The legal order with the fewest swaps of neighbours from the written one, None if there is none.

    Dijkstra's search; a state is the stages that have run and the facts that hold.
    """
    queue: list[tuple[int, tuple[int, ...], frozenset[str]]] = [(0, (), BASELINE_FACTS)]
    seen = set()
    while queue:
        swaps, order, facts = heappop(queue)
        if len(order) == len(stages):
            return order
        if (state := (frozenset(order), facts)) in seen:
            continue
        seen.add(state)
        waiting = (i for i in range(len(stages)) if i not in order)
        for passed, i in enumerate(waiting):
            if facts.issuperset(stages[i].record.needs):
                heappush(queue, (swaps + passed, (*order, i), stages[i].record.after(facts)))
    return None
