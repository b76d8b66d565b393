"""Which pipelines a study asks for: counted first, made afterwards, illegal ones left out with a note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, combinations
from typing import NamedTuple

from attrs import frozen

from pqd_core.facts import BASELINE_FACTS
from pqd_core.host.entries import Entry
from pqd_core.host.errors import PlanError, Problem, did_you_mean
from pqd_core.host.keys import canonical_json
from pqd_core.legal import check_order, in_words, nearest_legal_order, why_illegal
from pqd_core.spec import Spec, Study

Pipeline = tuple[int, ...]
"""Indices into `spec.stages`."""


@frozen
class Asked:
    """The pipelines to run, and what a person should know of how they came about."""

    pipelines: tuple[Pipeline, ...]
    notes: tuple[str, ...] = ()


def ask(spec: Spec) -> Asked:
    """The pipelines that `spec.study` means, equal ones once.

    Raises:
        PlanError: a written order is illegal, a name is unknown, no order is legal, or there are more than
            `max_pipelines`.
    """
    if spec.pipelines:
        return _asked_by_name(spec)
    whole = tuple(range(len(spec.stages)))
    if spec.study == "auto" and (order := nearest_legal_order(spec.stages)):
        return Asked((order,), _changed(spec.stages, order))
    if spec.study in ("as-written", "auto") or not whole:
        check_order(spec.stages)
        return Asked((whole,))
    outlook = count(spec, spec.study)
    if not outlook.legal:
        check_order(spec.stages)
    if outlook.legal > spec.max_pipelines:
        raise PlanError(_too_many(spec, outlook.legal))
    return Asked(tuple(Arrangements(spec, spec.study)), _left_out(spec, outlook))


def _asked_by_name(spec: Spec) -> Asked:
    pipelines = tuple(dict.fromkeys(_named(spec)))
    if len(pipelines) > spec.max_pipelines:
        what = f"names {len(pipelines)}, more than max_pipelines ({spec.max_pipelines})"
        raise PlanError(Problem("pipelines", what, "name fewer, or raise max_pipelines"))
    used = {kinds(spec)[i] for pipeline in pipelines for i in pipeline}
    idle = [name for name, kind in zip(stage_names(spec), kinds(spec), strict=True) if kind not in used]
    note = f"no pipeline names {', '.join(idle)}, which keeps its share of the budget"
    return Asked(pipelines, (note,) if idle else ())


def _named(spec: Spec) -> Iterator[Pipeline]:
    """The pipelines that the spec names; problems of all of them at once."""
    names, problems = stage_names(spec), list[Problem]()
    if spec.study != "as-written":
        what = f"are named, and study: {spec.study} means others"
        problems.append(Problem("pipelines", what, "leave one of the two out"))
    for number, pipeline in enumerate(spec.pipelines):
        where = f"pipelines.{number}"
        unknown = [(i, name) for i, name in enumerate(pipeline) if name not in names]
        problems += [Problem(f"{where}.{i}", f"no stage is '{name}'", did_you_mean(name, names)) for i, name in unknown]
        if unknown:
            continue
        if twice := sorted(name for name, times in Counter(pipeline).items() if times > 1):
            problems.append(Problem(where, f"names {', '.join(twice)} twice", "write the stage twice under stages"))
            continue
        if why := why_illegal([spec.stages[names.index(name)] for name in pipeline]):
            problems.append(Problem(where, why, "name the stages in another order, or leave one out"))
        yield tuple(names.index(name) for name in pipeline)
    if problems:
        raise PlanError(*problems)


def stage_names(spec: Spec) -> list[str]:
    """A name for each stage, in which stages that differ differ: `magnitude@3` is the one written third."""
    names = [stage.name for stage in spec.stages]
    if spec.study in ("as-written", "auto") and not spec.pipelines:
        return names  # one pipeline: its beginnings are told apart by their length
    alike = kinds(spec)
    variants = {name: {alike[i] for i, other in enumerate(names) if other == name} for name in names}
    return [f"{name}@{alike[i] + 1}" if len(variants[name]) > 1 else name for i, name in enumerate(names)]


def kinds(spec: Spec) -> list[int]:
    """For each stage the first one that is equal to it: the same settings, and the same epochs wherever both stand."""
    epochs: Sequence[int | None] = spec.stage_epochs()
    if spec.budget.by == "position":
        epochs = [stage.epochs for stage in spec.stages]
    alike = [canonical_json([s.identity(), n]) for s, n in zip(spec.stages, epochs, strict=True)]
    return [alike.index(one) for one in alike]


class Refusal(NamedTuple):
    """Why a stage cannot run: a fact that it lacks, and the stages before it that end this fact."""

    stage: str
    fact: str
    enders: tuple[str, ...]

    def __str__(self) -> str:
        who = f"{' or '.join(self.enders)} ends" if self.enders else "nothing before it gives"
        return f"{self.stage} needs a model that is {self.fact}, which {who}"


class Outlook(NamedTuple):
    """How many pipelines can be made, and how many cannot, by the first thing that hinders each."""

    legal: int
    refused: Counter[Refusal]


def count(spec: Spec, study: Study) -> Outlook:
    """How many pipelines a study comes to, without making them."""
    return Arrangements(spec, study).outlook()


class Arrangements:
    """The pipelines of a study, made one after another when they are iterated over."""

    def __init__(self, spec: Spec, study: Study) -> None:
        self.stages, self.study, self.kinds = spec.stages, study, kinds(spec)
        self.below = cache(self._below)  # what lies ahead depends on what was used, not on its order
        self.sizes = cache(self._sizes)

    def __iter__(self) -> Iterator[Pipeline]:
        if self.study == "subsets":
            return (chosen for chosen in self._subsets() if not self._hindrance(chosen))
        return self._walk((), BASELINE_FACTS)

    def outlook(self) -> Outlook:
        """How many there are, and what hinders the others."""
        if self.study != "subsets":
            return self.below(frozenset(), BASELINE_FACTS)
        hindered = [self._hindrance(chosen) for chosen in self._subsets()]
        return Outlook(hindered.count(None), Counter(filter(None, hindered)))

    def _subsets(self) -> Iterator[Pipeline]:
        """Each stage alone, each pair, ..., all, in the written order."""
        n, seen = len(self.stages), set[Pipeline]()
        for chosen in chain.from_iterable(combinations(range(n), size) for size in range(1, n + 1)):
            if (alike := tuple(self.kinds[i] for i in chosen)) not in seen:
                seen.add(alike)
                yield chosen

    def _hindrance(self, pipeline: Pipeline) -> Refusal | None:
        facts = BASELINE_FACTS
        for place, i in enumerate(pipeline):
            if refusal := self._refusal(i, frozenset(pipeline[:place]), facts):
                return refusal
            facts = self.stages[i].record.after(facts)
        return None

    def _refusal(self, i: int, used: frozenset[int], facts: frozenset[str]) -> Refusal | None:
        lacking = next((fact for fact in self.stages[i].record.needs if fact not in facts), None)
        if lacking is None:
            return None
        had = frozenset({lacking})
        enders = {self.stages[j].name for j in used if lacking not in self.stages[j].record.after(had)}
        return Refusal(self.stages[i].name, lacking, tuple(sorted(enders)))

    def _next(self, used: frozenset[int]) -> Iterator[int]:
        """The stages that may come next, of equal ones the first."""
        waiting = [i for i in range(len(self.stages)) if i not in used]
        kinds = [self.kinds[i] for i in waiting]
        return (i for place, i in enumerate(waiting) if kinds[place] not in kinds[:place])

    def _counts(self, used: frozenset[int]) -> bool:
        """Whether what was used so far is a pipeline by itself."""
        return self.study == "full" or len(used) == len(self.stages)

    def _sizes(self, used: frozenset[int]) -> int:
        """How many arrangements begin with what was used, legal or not."""
        return self._counts(used) + sum(self.sizes(used | {i}) for i in self._next(used))

    def _below(self, used: frozenset[int], facts: frozenset[str]) -> Outlook:
        legal, refused = int(bool(used) and self._counts(used)), Counter[Refusal]()
        for i in self._next(used):
            if refusal := self._refusal(i, used, facts):
                refused[refusal] += self.sizes(used | {i})
            else:
                ahead = self.below(used | {i}, self.stages[i].record.after(facts))
                legal, refused = legal + ahead.legal, refused + ahead.refused
        return Outlook(legal, refused)

    def _walk(self, path: Pipeline, facts: frozenset[str]) -> Iterator[Pipeline]:
        """The legal ones that begin with `path`, a beginning before what goes on from it."""
        used = frozenset(path)
        if path and self._counts(used):
            yield path
        for i in self._next(used):
            after = self.stages[i].record.after(facts)
            if not self._refusal(i, used, facts) and self.below(used | {i}, after).legal:
                yield from self._walk((*path, i), after)


def _changed(stages: Sequence[Entry], order: Pipeline) -> tuple[str, ...]:
    written = range(len(stages))
    if order == tuple(written):
        return ()
    return (f"auto runs {in_words(stages, order)} in place of {in_words(stages, written)}: {why_illegal(stages)}",)


def _left_out(spec: Spec, outlook: Outlook) -> tuple[str, ...]:
    if not (left_out := outlook.refused.total()):
        return ()
    reasons = "; ".join(f"{refusal} ({n:,})" for refusal, n in outlook.refused.most_common())
    return (f"{left_out:,} of {left_out + outlook.legal:,} pipelines are left out, as they cannot run: {reasons}",)


def _too_many(spec: Spec, pipelines: int) -> Problem:
    smaller: tuple[Study, ...] = ("orders", "subsets")
    others = {study: count(spec, study).legal for study in smaller if study != spec.study}
    fitting = "".join(f", or study: {s} ({n} pipelines)" for s, n in others.items() if 0 < n <= spec.max_pipelines)
    what = (
        f"{spec.study} of {len(spec.stages)} stages is {pipelines:,} pipelines, and max_pipelines {spec.max_pipelines}"
    )
    return Problem("study", what, f"leave stages out, or write max_pipelines: {pipelines}{fitting}")
