"""What is run on integers of a file that nobody knows more of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attrs import frozen

from pqd_core import Operator
from pqd_measure.bench_report import share_text
from pqd_measure.work import Untold, Work, work_by


@frozen
class Telling:
    """A runtime that says what it runs."""

    operators: list[Operator]

    def execution(self, file: Path, settings: Any) -> list[Operator]:
        return self.operators

    def weights(self, file: Path) -> dict[str, np.ndarray]:
        return {}


@pytest.mark.parametrize(
    ("runtime", "shape", "reason"),
    [
        (SimpleNamespace(), (None, 3, 8, 8), "its runtime does not tell"),
        (SimpleNamespace(execution=None), (None, 3, None, None), "it takes images of any size"),
        (Telling([Operator("a", "Add", "compute", integer=False)]), (None, 3, 8, 8), "multiplies by no weights"),
    ],
)
def test_what_is_not_known_of_a_file_has_a_reason(runtime: Any, shape: Any, reason: str) -> None:
    with pytest.raises(Untold, match=reason):
        work_by(runtime, Path("a.npy"), None, shape)


def test_integers_without_a_weight_that_is_known_are_not_called_float() -> None:
    """A file in which quantized layers are operators of their own shows no weights."""
    work = work_by(Telling([Operator("a", "QLinearConv", "compute", integer=True, macs=8)]), Path("a"), None, None)
    assert (work.share, work.in_float) == (1.0, [])


def test_a_share_is_rounded_down_so_that_all_means_all() -> None:
    assert share_text(Work(10**6, 0.99999, [], [])) == "99.9%"
    assert share_text(Work(10**6, 1.0, [], [])) == "100%"


def test_a_reason_of_the_runtime_itself_goes_before_a_guess() -> None:
    operators = [
        Operator("a", "qconv", "compute", integer=True, macs=8),
        Operator("b", "conv2d", "compute", integer=False, macs=8, why="it is told to"),
    ]
    assert work_by(Telling(operators), Path("a"), None, None).in_float == [("b (conv2d) stays float", "it is told to")]
