"""The share of a file's work that runs on integers, and sentences for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measure_kit import context_of, deployed, some_data

from pqd_core import Measurement, Operator, Settings
from pqd_measure import integers

CONV = Operator("conv", "QLinearConv", "compute", integer=True, macs=900)
HEAD = Operator("head", "Gemm", "compute", integer=False, macs=100)
OTHERS = [
    Operator("images", "QuantizeLinear", "convert", integer=False),
    Operator("flatten", "Reshape", "move", integer=False),
]
INT8, FLOAT = np.ones((2, 2), np.int8), np.ones((2, 2), np.float32)


def share_of(
    folder: Path, operators: list[Operator] | None, stages: Sequence[dict[str, Any]] = (), **weights: np.ndarray
) -> Measurement:
    replaced: dict[str, Any] = {
        "execution": lambda one: operators,
        "weights": lambda one: weights,
        "stages": lambda one: stages,
    }
    [[number]] = integers.measure([deployed(folder, "one")], Settings(), context_of(some_data(), folder, **replaced))
    return number


def test_the_share_is_of_multiply_adds(tmp_path: Path) -> None:
    found = share_of(tmp_path, [*OTHERS, CONV, HEAD], conv=INT8, head=FLOAT)
    assert (found.value, found.n) == (0.9, 1000)
    assert found.provenance["conversions"] == ["images"]


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"head": FLOAT}, "its weight is stored in float"),
        ({"head": INT8}, "its weight is INT8, but the runtime has no integer kernel"),
        ({}, "its inputs are not quantized"),
    ],
)
def test_what_stays_float_is_named_with_a_reason(tmp_path: Path, weights: dict[str, np.ndarray], reason: str) -> None:
    found = share_of(tmp_path, [*OTHERS, CONV, HEAD], conv=INT8, **weights)
    [sentence] = found.provenance["float_operators"]
    assert sentence.startswith(f"head (Gemm) stays float: {reason}")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"exclude": ("h*",)}, "int8-qat was told exclude: h*"),
        ({"include": ("conv", "c*")}, "int8-qat was told include: conv, c*"),
        (
            {"keep_float": ("first", "last")},
            "int8-qat was told keep_float: first, last; or it could not take the layer",
        ),
        ({"exclude": ("conv",)}, "the quantizing stage could not take it"),
        ({"kind": "prune", "use": "magnitude", "exclude": ("head",)}, "the quantizing stage could not take it"),
    ],
)
def test_the_setting_that_kept_a_layer_in_float_is_quoted(tmp_path: Path, told: dict[str, Any], reason: str) -> None:
    stage = {"use": "int8-qat", "kind": "quantize", **told}
    found = share_of(tmp_path, [CONV, HEAD], [stage], conv=INT8, head=FLOAT)
    [sentence] = found.provenance["float_operators"]
    assert sentence == f"head (Gemm) stays float: its weight is stored in float: {reason}"


def test_a_float_network_is_told_in_one_sentence(tmp_path: Path) -> None:
    found = share_of(tmp_path, [HEAD, *OTHERS], head=FLOAT)
    assert found.value == 0
    assert found.provenance["float_operators"] == ["everything is float: no stage has quantized the network"]


def test_a_runtime_that_does_not_tell_leaves_the_number_missing_without_failing(tmp_path: Path) -> None:
    found = share_of(tmp_path, None)
    assert found.missing == "the runtime linear does not tell what it runs"
    assert "error" not in found.provenance
