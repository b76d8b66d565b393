"""What a runtime makes of a file: how much of the work is on integers, what stays float, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from pqd_core import Operator, PqdError

COUNTED = "multiply-adds of one image by weights, as the runtime runs them after its own fusions"
ANY_SIZE = "it takes images of any size, and its runtime tells only what it runs of a file with sizes of its own"
AT_MOST = 100
"""Sentences, or names, that a report has to carry."""
LONGEST_NAME = 80
Weights = Mapping[str, np.ndarray]


class Untold(PqdError):
    """What a runtime runs of a file is not known; the text says why."""


@frozen
class Origin:
    """What is known of how a file came about."""

    why_all_float: str = "nothing in the file is quantized"
    who_left: Callable[[str], str] = lambda layer: ""
    """Why a layer's weight is stored in float."""


@frozen
class Work:
    """What a runtime makes of a file."""

    macs: int
    share: float
    """Of the multiply-adds, on integers."""
    in_float: Sequence[tuple[str, str]]
    """Operators that compute in float, and why."""
    conversions: Sequence[str]
    """Operators that only go from float to integers or back."""

    def told(self) -> dict[str, Any]:
        """As it is kept with the share."""
        return {
            "counted": COUNTED,
            "float_operators": [f"{who}: {why}" for who, why in self.in_float[:AT_MOST]],
            "float_operator_count": len(self.in_float),
            "conversions": list(self.conversions[:AT_MOST]),
        }


def work_by(runtime: Any, file: Path, settings: Any, shape: Sequence[int] | None) -> Work:
    """What `runtime` makes of a file of which nothing is known.

    Args:
        runtime: a runtime's implementation.
        file: what it is to tell of.
        settings: the runtime's.
        shape: that of an image, (C, H, W), where the file leaves sizes open.

    Raises:
        Untold: the runtime cannot tell.
    """
    if not hasattr(runtime, "execution"):
        raise Untold("its runtime does not tell what it runs")
    if shape is None:
        operators = runtime.execution(file, settings)
    elif "shape" in signature(runtime.execution).parameters:
        operators = runtime.execution(file, settings, shape=tuple(shape))
    else:
        raise Untold(ANY_SIZE)
    return work_of(operators, runtime.weights(file), Origin())


def work_of(operators: Sequence[Operator], weights: Weights, origin: Origin) -> Work:
    """What `operators` come to, by the weights that the file stores.

    Raises:
        Untold: they multiply by no weights, or by none that a runtime counts.
    """
    total = sum(operator.macs for operator in operators)
    if not total:
        raise Untold("the file multiplies by no weights that pqd counts")
    return Work(
        macs=total,
        share=sum(operator.macs for operator in operators if operator.integer) / total,
        in_float=_in_float(operators, weights, origin),
        conversions=[shown(operator.name) for operator in operators if operator.role == "convert"],
    )


def _in_float(operators: Sequence[Operator], weights: Weights, origin: Origin) -> list[tuple[str, str]]:
    """Each operator that computes in float; one entry for all where nothing is quantized."""
    if not any(operator.integer for operator in operators) and all(w.dtype.kind == "f" for w in weights.values()):
        return [("everything is float", origin.why_all_float)]
    computing = (operator for operator in operators if operator.role == "compute" and not operator.integer)
    return [(_stays_float(one), _why(one, weights.get(one.name), origin)) for one in computing]


def _stays_float(operator: Operator) -> str:
    return f"{shown(operator.name)} ({shown(operator.kind)}) stays float"


def shown(name: str) -> str:
    """A name out of a file, whoever made it, as it may go to a terminal: on one line, and not too long."""
    clean = printable(name[:LONGEST_NAME])
    return clean if len(name) <= LONGEST_NAME else f"{clean}..."


def printable(text: str) -> str:
    """`text` without what would break the line, or tell a terminal to do something."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _why(operator: Operator, weight: np.ndarray | None, origin: Origin) -> str:
    if weight is not None and weight.dtype.kind == "f":
        return ": ".join(filter(None, ["its weight is stored in float", origin.who_left(operator.name)]))
    if operator.why:
        return operator.why
    if weight is None:
        return "its inputs are not quantized, or the runtime has no integer kernel for it"
    return "its weight is INT8, but the runtime has no integer kernel for the way it is used"
