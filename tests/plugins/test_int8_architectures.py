"""Every family of torchvision's classification networks is pruned, quantized, distilled and deployed as simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_kit import FAMILIES, IMAGES, Family, sweep

QUICK = ("squeezenet1_1",)
"""What the default tests take; the others take minutes together."""
LARGEST_ERROR = 0.25
"""Of the standard deviation of an output over the images. Rounding that differs in the last bit of one activation grows
from layer to layer, most of all in an untrained network."""


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[] if family.model in QUICK else pytest.mark.slow, id=family.model)
        for family in FAMILIES
    ],
)
def test_a_family_is_deployed_as_it_was_simulated(family: Family, tmp_path: Path) -> None:
    outcome = sweep(family, tmp_path)
    assert outcome.int8_layers == outcome.layers
    for runtime, agreement in outcome.agreement.items():
        assert agreement.rms < LARGEST_ERROR, runtime
        assert agreement.changed <= IMAGES // 8, runtime
