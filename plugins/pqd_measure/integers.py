"""How much of a deployed file's work its runtime does on integers, and what stays float, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from pqd_core import Deployed, MeasureContext, Measurement, Operator, Settings
from pqd_measure import INT8_SHARE
from pqd_measure.cells import missing, number

COUNTED = "multiply-adds of one image by weights, as the runtime runs them after its own fusions"
AT_MOST = 100
"""Sentences that a report has to carry."""


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: the share of its multiply-adds on integers; in the provenance what is not, with reasons."""
    return [[_measure_one(candidate, context)] for candidate in candidates]


def _measure_one(candidate: Deployed, context: MeasureContext) -> Measurement:
    operators = context.execution(candidate)
    if operators is None:
        return missing(INT8_SHARE, f"the runtime {candidate.runtime} does not tell what it runs")
    total = sum(operator.macs for operator in operators)
    if not total:
        return missing(INT8_SHARE, "the file multiplies by no weights")
    sentences = float_operators(operators, context.weights(candidate), context.stages(candidate))
    return number(
        INT8_SHARE,
        sum(operator.macs for operator in operators if operator.integer) / total,
        n=total,
        counted=COUNTED,
        float_operators=sentences[:AT_MOST],
        float_operator_count=len(sentences),
        conversions=[operator.name for operator in operators if operator.role == "convert"][:AT_MOST],
    )


Stages = Sequence[Mapping[str, Any]]


def float_operators(operators: Sequence[Operator], weights: Mapping[str, np.ndarray], stages: Stages = ()) -> list[str]:
    """A sentence for each operator that computes in float; one for all where nothing is quantized."""
    if all(weight.dtype.kind == "f" for weight in weights.values()):
        return ["everything is float: no stage has quantized the network"]
    computing = (operator for operator in operators if operator.role == "compute" and not operator.integer)
    return [f"{one.name} ({one.kind}) stays float: {_why(one, weights, stages)}" for one in computing]


def _why(operator: Operator, weights: Mapping[str, np.ndarray], stages: Stages) -> str:
    weight = weights.get(operator.name)
    if weight is None:
        return "its inputs are not quantized, or the runtime has no integer kernel for it"
    if weight.dtype.kind == "f":
        return f"its weight is stored in float: {_who_left(operator.name, stages)}"
    return "its weight is INT8, but the runtime has no integer kernel for the way it is used"


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
