"""How much of a deployed file's work its runtime does on integers, and what stays float, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from pqd_core import Deployed, MeasureContext, Measurement, Settings
from pqd_measure import INT8_SHARE
from pqd_measure.cells import missing, number
from pqd_measure.work import Origin, Untold, work_of

Stages = Sequence[Mapping[str, Any]]


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: the share of its multiply-adds on integers; in the provenance what is not, with reasons."""
    return [[_measure_one(candidate, context)] for candidate in candidates]


def _measure_one(candidate: Deployed, context: MeasureContext) -> Measurement:
    operators = context.execution(candidate)
    if operators is None:
        return missing(INT8_SHARE, f"the runtime {candidate.runtime} does not tell what it runs")
    origin = Origin("no stage has quantized the network", partial(_who_left, stages=context.stages(candidate)))
    try:
        work = work_of(operators, context.weights(candidate), origin)
    except Untold as reason:
        return missing(INT8_SHARE, str(reason))
    return number(INT8_SHARE, work.share, n=work.macs, **work.told())


def _who_left(layer: str, stages: Stages) -> str:
    """The setting that kept a layer in float, in the words of the stage that quantizes."""
    for stage in (stage for stage in stages if stage["kind"] == "quantize"):
        if told := _setting(layer, stage):
            return f"{stage['use']} was told {told}"
    return "the quantizing stage could not take it"


def _setting(layer: str, stage: Mapping[str, Any]) -> str | None:
    """`exclude: fc*`, for example."""
    included, excluded = stage.get("include", ("*",)), stage.get("exclude", ())
    if fitting := [glob for glob in excluded if fnmatchcase(layer, glob)]:
        return f"exclude: {fitting[0]}"
    if not any(fnmatchcase(layer, glob) for glob in included):
        return f"include: {', '.join(included)}"
    ends = stage.get("keep_float", ())
    return f"keep_float: {', '.join(ends)}; or it could not take the layer" if ends else None
