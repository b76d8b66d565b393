"""The weight range is one that the CPU multiplies exactly, and a rebuilt network keeps its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from stage_kit import context, network

from pqd_int8 import Int8QatSettings, int8_qat, target
from pqd_int8.fake_quant import WeightFakeQuant
from pqd_int8.target import FULL, REDUCED, WeightRange, choose_range, is_exact


@pytest.fixture
def saturating(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CPU without VNNI: pairs of products are added in 16 bits."""

    def convolve(images: np.ndarray, weight: np.ndarray, step: float) -> np.ndarray:
        pair = min(2 * int(images.flat[0]) * int(weight.flat[0]), 2**15 - 1)
        taps = weight[0].size
        shape = (len(images), len(weight), *images.shape[2:])
        return np.full(shape, np.clip(np.round(pair * taps / 2 / step), 0, 255), np.uint8)

    monkeypatch.setattr(target, "_convolve", convolve)
    is_exact.cache_clear()
    yield
    is_exact.cache_clear()


def test_the_reduced_range_is_exact_on_this_machine() -> None:
    assert is_exact(REDUCED)
    assert choose_range("auto") in (FULL, REDUCED)


def test_the_reduced_range_is_the_widest_that_cannot_saturate_16_bits() -> None:
    assert 2 * 255 * REDUCED.high < 2**15 <= 2 * 255 * (REDUCED.high + 1)


@pytest.mark.usefixtures("saturating")
def test_auto_reduces_the_range_on_a_cpu_that_saturates() -> None:
    assert not is_exact(FULL)
    assert not is_exact(WeightRange(-65, 65))
    assert choose_range("auto") == REDUCED


def test_a_named_range_is_taken_as_it_is() -> None:
    assert choose_range("full") == WeightRange(-127, 127)
    assert choose_range("reduced") == WeightRange(-64, 64)


@pytest.mark.usefixtures("saturating")
def test_a_network_trained_elsewhere_is_rebuilt_with_its_own_range() -> None:
    settings = Int8QatSettings()
    first = context(epochs=0)
    first_model = int8_qat.restructure(network(), settings, first)
    assert first.facts["fake-quant"]["weight_range"].tolist() == [-64, 64]
    elsewhere = context(facts={"fake-quant": {"weight_range": torch.tensor([-127, 127])}})
    model = int8_qat.restructure(network(), settings, elsewhere)
    assert elsewhere.facts["fake-quant"]["weight_range"].tolist() == [-127, 127]
    assert [m.quant_max for m in model.modules() if isinstance(m, WeightFakeQuant)] == [127] * 5
    assert [m.quant_max for m in first_model.modules() if isinstance(m, WeightFakeQuant)] == [64] * 5


def test_the_choice_is_logged_on_the_first_run_only() -> None:
    first = context()
    int8_qat.restructure(network(), Int8QatSettings(weight_range="reduced"), first)
    [call] = first.log.calls  # type: ignore[attr-defined]
    assert (call.kwargs["lowest"], call.kwargs["highest"], call.kwargs["asked"]) == (-64, 64, "reduced")
    again = context(facts=first.facts)
    int8_qat.restructure(network(), Int8QatSettings(weight_range="reduced"), again)
    assert again.log.calls == []  # type: ignore[attr-defined]
