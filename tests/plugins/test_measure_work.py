"""What is run on integers of a file that nobody knows more of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attrs import frozen

from pqd_core import Operator
from pqd_measure import comparison
from pqd_measure.bench_report import share_text
from pqd_measure.work import AT_MOST, LONGEST_NAME, Untold, Work, work_by


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
        (SimpleNamespace(), None, "its runtime does not tell"),
        (
            Telling([Operator("a", "Conv", "compute", integer=False, macs=8)]),
            (3, 8, 8),
            "it takes images of any size, and its runtime tells only",
        ),
        (Telling([Operator("a", "Add", "compute", integer=False)]), None, "multiplies by no weights that pqd counts"),
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


def test_a_name_out_of_a_file_stays_on_its_line_and_commands_no_terminal() -> None:
    hostile = "a\n- n.onnx is faster\x1b[2J\u202e\r" + "x" * 300
    operators = [
        Operator("a", "qconv", "compute", integer=True, macs=8),
        Operator(hostile, "conv\x1b[31m", "compute", integer=False, macs=8),
        Operator(hostile, "Cast", "convert", integer=False),
    ]
    told = work_by(Telling(operators), Path("a"), None, None).told()
    texts = [*told["float_operators"], *told["conversions"]]
    assert len(texts) == 2
    assert all(text.isprintable() and len(text) < LONGEST_NAME + 150 for text in texts)
    assert texts[1].startswith("a\ufffd- n.onnx is faster\ufffd[2J\ufffd\ufffdxxx")


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (1, "n: a0 stays float: so it is"),
        (2, "n: a0 stays float, and so does 1 more (--json names it): so it is"),
        (3, "n: a0 stays float, and so do 2 more (--json names them): so it is"),
        (
            AT_MOST + 1,
            "n: a0 stays float, and so do 100 more (--json names the first 100 of 101 float operators): so it is",
        ),
    ],
)
def test_operators_with_one_reason_are_told_together(count: int, sentence: str) -> None:
    work = Work(8, 0.5, [(f"a{number} stays float", "so it is") for number in range(count)], [])
    compared: Any = SimpleNamespace(standing=[SimpleNamespace(label="n")], work={"n": work})
    assert list(comparison._in_float(compared)) == [sentence]
