"""The tables of two runs side by side."""

from __future__ import annotations

import json
from typing import Any

from pqd_core import Comparison, Estimate, short_metric
from pqd_report.names import in_arrows
from pqd_report.tables import Shown, Table, dot

LONGEST = 300
"""Of a value that differs so many characters are shown."""


def difference_table(found: Comparison) -> Table:
    """What was not asked for alike, or not on the same machine with the same versions."""
    rows = [[Shown(one.where), _value(one.a), _value(one.b)] for one in found.differences]
    return Table("In the spec, the machine and its versions", ["where", "first", "second"], rows)


def _value(value: Any) -> Shown:
    if value is None:
        return Shown("not there", mark="off")
    text = value if isinstance(value, str) else json.dumps(value)
    return Shown(text if len(text) <= LONGEST else f"{text[:LONGEST]} ...", mark="text")


def pair_table(found: Comparison) -> Table:
    """Every number that both runs have, and its change."""
    rows = [
        [
            Shown(in_arrows(pair.pipeline), sort=f"{len(pair.pipeline)}{i:05}"),
            Shown(pair.runtime, sort=pair.runtime),
            Shown(short_metric(pair.metric), sort=pair.metric),
            Shown(pair.a, sort=pair.a),
            Shown(pair.b, sort=pair.b),
            _change(pair.change),
        ]
        for i, pair in enumerate(found.pairs)
    ]
    header = ["pipeline", "runtime", "metric", "first", "second", "change"]
    return Table("What both runs have", header, rows, frozenset({3, 4, 5}))


def _change(change: Estimate | None) -> Shown:
    if change is None:
        return Shown("no seed in both", mark="off")
    scale, digits = (100, "+.2f") if change.kind == "difference" else (1, ".2f")
    ends = [end for end in (change.student_low, change.student_high) if end is not None]
    interval = f"[{', '.join(format(end * scale, digits) for end in ends)}]" if ends else ""
    return Shown(change.text + dot(change), interval, change.value)
