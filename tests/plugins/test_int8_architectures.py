"""Every family of torchvision's classification networks is pruned, quantized, distilled and deployed as simulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sweep import FAMILIES, Family, sweep

QUICK = ("squeezenet1_1",)
"""What the default tests take; the others take minutes together."""


HOUR = 3600
"""For MaxViT, on a machine with other work."""
TOLERANCE = 1.5
"""Times how far the last bits of its sums take the simulated network from itself: see docs/int8.md."""
ONE_STEP = 1.0
"""What is always allowed, in INT8 steps of the last layer."""


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            family,
            marks=[] if family.model in QUICK else [pytest.mark.slow, pytest.mark.timeout(HOUR)],
            id=family.model,
        )
        for family in FAMILIES
    ],
)
def test_a_family_is_deployed_as_it_was_simulated(family: Family, tmp_path: Path) -> None:
    outcome = sweep(family, tmp_path)
    assert outcome.int8_layers == outcome.layers
    for runtime, agreement in outcome.agreement.items():
        assert agreement.rms <= max(ONE_STEP, TOLERANCE * outcome.jitter.rms), runtime
