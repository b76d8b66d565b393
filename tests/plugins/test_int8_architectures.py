"""Every family of torchvision's classification networks is pruned, quantized, distilled and deployed as simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_kit import FAMILIES, Family, sweep

QUICK = ("squeezenet1_1",)
"""What the default tests take; the others take minutes together."""


TOLERANCE = 1.5
"""Times what INT8 itself costs: one activation that is rounded the other way moves others in every layer behind it, as
far as rounding at all does in a deep network that was not trained."""


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
        assert agreement.rms < TOLERANCE * outcome.rounding, runtime
