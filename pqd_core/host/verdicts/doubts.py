"""What measurers were in doubt about: the `caution` that one may leave in a number's provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pqd_core.host.rows import Row

NAMED = 3


def doubt_verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """Each caution once, with where it holds."""
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        for metric in row.metrics.values():
            if caution := metric.provenance.get("caution"):
                places.setdefault(str(caution), {})[f"{row.label} on {row.runtime}"] = None
    for caution, where in places.items():
        named = ", ".join([*where][:NAMED]) + (f" and {len(where) - NAMED} more" if len(where) > NAMED else "")
        yield f"caution: {caution} ({named})"
