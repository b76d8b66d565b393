"""What each stage changes, by its position and by what came before it: every edge of the tree is an observation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from attrs import frozen
from pydantic import Field

from pqd_core.host.analysis.changes import Change, Estimate, average, changes, estimate
from pqd_core.host.rows import Part, Pipeline, Place, Row, compared

Rows = Mapping[int, Row]


@frozen
class Edge:
    """One stage added to one pipeline in one runtime, and what it changed in one metric for each seed."""

    before: Pipeline
    stage: str
    runtime: str
    metric: str
    by_seed: Mapping[int, Change]

    @property
    def position(self) -> int:
        """1 for the first stage of a pipeline."""
        return len(self.before) + 1


class Effect(Part):
    """What a stage changes in one metric, over the pipelines in which it stands at one place."""

    stage: str = Field(description="The stage.")
    runtime: str = Field(description="Where the files run.")
    metric: str = Field(description="The metric.")
    position: int | None = Field(None, description="Its position, 1 for the first; null where `after` groups.")
    after: Pipeline | None = Field(
        None, description="The stages before it, in whichever order; null where `position` groups."
    )
    edges: int = Field(
        description="Pipelines that the stage was added to, without those that lack seeds; averaged within each seed."
    )
    change: Estimate = Field(description="The change from the pipeline without the stage, paired by seed.")


def edges(places: Mapping[Place, Rows]) -> Iterator[Edge]:
    """Every stage that was added to a pipeline which was measured too, for each runtime and metric."""
    metrics = compared(row for seeds in places.values() for row in seeds.values())
    for (pipeline, runtime), seeds in places.items():
        parent = places.get((pipeline[:-1], runtime)) if pipeline else None
        for metric in metrics if parent else ():
            if found := changes(parent or {}, seeds, metric):
                yield Edge(pipeline[:-1], pipeline[-1], runtime, metric, found)


def effects(found: Iterable[Edge]) -> list[Effect]:
    """The effect of each stage at each position, then after each set of stages."""
    found = list(found)
    by_position = _grouped(found, lambda edge: edge.position)
    by_company = _grouped(found, lambda edge: tuple(sorted(edge.before)))
    return [
        *(_effect(group, position=group[0].position) for group in by_position),
        *(_effect(group, after=group[0].before) for group in by_company),
    ]


def _grouped(found: Iterable[Edge], place: Callable[[Edge], object]) -> list[list[Edge]]:
    groups: dict[tuple[object, ...], list[Edge]] = {}
    for edge in found:
        groups.setdefault((edge.stage, edge.runtime, edge.metric, place(edge)), []).append(edge)
    return list(groups.values())


def _effect(group: list[Edge], **place: Any) -> Effect:
    first, edges = group[0], len(complete(group))
    return Effect(
        stage=first.stage, runtime=first.runtime, metric=first.metric, edges=edges, change=mean_of(group), **place
    )


def mean_of(group: Sequence[Edge]) -> Estimate:
    """The mean change of some edges: first within each seed, as edges of one seed share steps, then over seeds."""
    found = estimate(within_seeds(group))
    assert found is not None, "an edge has at least one seed"
    return found


def within_seeds(group: Sequence[Edge]) -> dict[int, Change]:
    """Each seed's mean change of the same edges."""
    whole = complete(group)
    return {seed: average([edge.by_seed[seed] for edge in whole]) for seed in _most_seeds(group)}


def complete(group: Sequence[Edge]) -> list[Edge]:
    """The edges that lack no seed of the one that has most: means of other edges in each seed do not compare."""
    return [edge for edge in group if edge.by_seed.keys() >= _most_seeds(group)]


def _most_seeds(group: Sequence[Edge]) -> Set[int]:
    return max((edge.by_seed.keys() for edge in group), key=len)
