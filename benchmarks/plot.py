"""The plot of a run: accuracy against latency, size as area, one colour per runtime.

    python benchmarks/plot.py RUN OUT.svg

Needs the dependency group `bench` (altair, vl-convert). RUN is a run folder or its report.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import altair as alt

from pqd_core.report import Report, read_report

COLOURS = {"onnxruntime": "#0072B2", "openvino": "#D55E00", "torch": "#009E73"}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


def points(report: Report) -> list[dict[str, Any]]:
    """One mapping per row that has all three numbers."""
    found = [
        {
            "pipeline": row.label.replace(" -> ", " → "),
            "runtime": row.runtime,
            "accuracy": row.value("accuracy"),
            "latency": row.value("latency_ms"),
            "size": (row.value("size_bytes") or 0) / 1e3,
        }
        for row in report.rows
    ]
    return [point for point in found if point["accuracy"] is not None and point["latency"] is not None]


def draw(report: Report) -> alt.LayerChart:
    """The chart."""
    data = alt.Data(values=points(report))
    base = alt.Chart(data).encode(
        x=alt.X("latency:Q", title="latency, batch 1 (ms, median)", scale=alt.Scale(zero=True)),
        y=alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False, padding=24)),
        color=alt.Color(
            "runtime:N", scale=alt.Scale(domain=list(COLOURS)[:2], range=list(COLOURS.values())[:2]), title=None
        ),
    )
    dots = base.mark_circle(opacity=0.75).encode(
        size=alt.Size("size:Q", title="file (kB)", scale=alt.Scale(range=[60, 900], zero=True))
    )
    labels = base.mark_text(align="left", dx=14, fontSize=11).encode(text="pipeline:N")
    return (dots + labels).properties(width=640, height=360, title=report.title)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    draw(read_report(options.run)).save(str(options.out))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
