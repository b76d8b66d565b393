"""What `pqd doctor` is told about INT8: whether this CPU multiplies exactly."""

from __future__ import annotations

from collections.abc import Iterator

from pqd_core import Finding
from pqd_int8.target import FULL, REDUCED, is_exact


def saturation() -> Iterator[Finding]:
    """The largest products are added up, once for each weight range, as a quantized network would."""
    if is_exact(FULL):
        yield Finding(f"weights in [{FULL.low}, {FULL.high}] are multiplied exactly: weight_range auto is full here")
        return
    advice = "a network quantized on another machine needs weight_range: reduced to be exact here"
    what = f"sums of weights in [{FULL.low}, {FULL.high}] saturate: weight_range auto is reduced here"
    yield Finding(what, ok=False, advice=advice)
    if not is_exact(REDUCED):
        what = f"sums of weights in [{REDUCED.low}, {REDUCED.high}] saturate as well"
        yield Finding(what, ok=False, advice="INT8 results are wrong on this CPU; deploy in float")
