"""What rounding lost is found whatever scales, folded batch norms or layouts the file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measure_kit import context_of, deployed, some_data

from pqd_core import Measurement, Settings
from pqd_measure import quantization

WEIGHT = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)


def rounded(weight: np.ndarray, levels: int = 127, folded: float = 1.0) -> np.ndarray:
    """The weight as int8, one scale per output channel, after a batch norm was folded in."""
    flat = weight.reshape(len(weight), -1) * folded
    return np.round(flat / np.abs(flat).max(1, keepdims=True) * levels).astype(np.int8).reshape(weight.shape)


def error_of(folder: Path, stored: dict[str, Any], trained: dict[str, Any]) -> Measurement:
    context = context_of(some_data(), folder, weights=lambda one: stored, trained_weights=lambda one: trained)
    [[number]] = quantization.measure([deployed(folder, "one")], Settings(), context)
    return number


def test_coarser_integers_lose_more_and_as_much_as_theory_says(tmp_path: Path) -> None:
    fine, coarse = (
        error_of(tmp_path / str(levels), {"conv": rounded(WEIGHT, levels)}, {"conv": WEIGHT}).value or 0.0
        for levels in (127, 31)
    )
    steps = np.abs(WEIGHT.reshape(8, -1)).max(1) / 127
    uniform = float((steps**2 / 12 * WEIGHT[0].size).sum() / (WEIGHT**2).sum())
    assert fine == pytest.approx(uniform, rel=0.3)
    assert coarse == pytest.approx(fine * (127 / 31) ** 2, rel=0.3)


def test_integers_that_stand_for_the_weights_exactly_lose_nothing(tmp_path: Path) -> None:
    integers = rounded(WEIGHT)
    found = error_of(tmp_path, {"conv": integers}, {"conv": integers * np.float32(0.125)})
    assert found.value == pytest.approx(0, abs=1e-12)


def test_a_folded_batch_norm_changes_nothing_not_even_its_sign(tmp_path: Path) -> None:
    plain = error_of(tmp_path / "a", {"conv": rounded(WEIGHT)}, {"conv": WEIGHT}).value
    folded = error_of(tmp_path / "b", {"conv": rounded(WEIGHT, folded=-0.3)}, {"conv": WEIGHT}).value
    assert folded == pytest.approx(plain, rel=1e-6)


def test_a_matrix_that_is_stored_the_other_way_round_is_compared(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(10, 20)).astype(np.float32)
    found = error_of(tmp_path, {"fc": rounded(weight).T}, {"fc": weight})
    assert found.value is not None
    assert found.value < 1e-3


def test_layers_are_told_one_by_one_and_those_without_a_partner_too(tmp_path: Path) -> None:
    stored = {"a": rounded(WEIGHT), "b": rounded(WEIGHT, 15), "lost": rounded(WEIGHT)}
    found = error_of(tmp_path, stored, {"a": WEIGHT, "b": WEIGHT})
    assert found.provenance["layers"]["b"] > found.provenance["layers"]["a"] > 0
    assert found.provenance["not_compared"] == ["lost"]
    assert found.n == 2 * WEIGHT.size


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ({"conv": WEIGHT}, "the deployed file stores its weights as floating-point numbers"),
        ({"other": rounded(WEIGHT)}, "no layer of the file has the name and the shape of a trained one"),
    ],
)
def test_where_there_is_nothing_to_compare_it_is_said_why(tmp_path: Path, stored: dict[str, Any], why: str) -> None:
    found = error_of(tmp_path, stored, {"conv": WEIGHT})
    assert (found.value, found.missing) == (None, why)
    assert not found.provenance.get("error")


def test_a_layer_of_zeros_loses_nothing(tmp_path: Path) -> None:
    zeros = np.zeros((4, 4), np.float32)
    found = error_of(tmp_path, {"fc": zeros.astype(np.int8)}, {"fc": zeros})
    assert found.value == 0
