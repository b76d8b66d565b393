"""The plot of a run: accuracy against latency, size as area, one panel per runtime.

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
    """One mapping per row that has all three numbers, with the ends of their intervals."""
    found = []
    for row in report.rows:
        accuracy, latency = row.metrics.get("accuracy"), row.metrics.get("latency_ms")
        if accuracy and latency and accuracy.value is not None and latency.value is not None:
            found.append(
                {
                    "pipeline": row.label.replace(" -> ", " → "),
                    "runtime": row.runtime,
                    "size": (row.value("size_bytes") or 0) / 1e3,
                    **_ends("accuracy", accuracy.value, accuracy.spread),
                    **_ends("latency", latency.value, latency.spread),
                }
            )
    return found


def _ends(name: str, value: float, spread: float | None) -> dict[str, float]:
    return {name: value, f"{name}_low": value - (spread or 0), f"{name}_high": value + (spread or 0)}


def draw(report: Report) -> alt.FacetChart:
    """A panel per runtime: a disc for each pipeline, its area the file's size, with 95 % intervals both ways."""
    found = points(report)
    runtimes = sorted({point["runtime"] for point in found})
    scale = alt.Scale(domain=runtimes, range=[COLOURS.get(name, "#000000") for name in runtimes])
    pipeline = alt.Shape("pipeline:N", title=None, sort=[point["pipeline"] for point in found])
    base = alt.Chart().encode(
        x=alt.X("latency:Q", title="latency, batch 1 (ms, median)", scale=alt.Scale(zero=True)),
        y=alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False, padding=12)),
        color=alt.Color("runtime:N", scale=scale, legend=None),
    )
    size = alt.Size("size:Q", title="file (kB)", scale=alt.Scale(range=[80, 700], zero=True))
    discs = base.mark_point(filled=True, opacity=0.8).encode(size=size, shape=pipeline)
    across = base.mark_rule(opacity=0.5).encode(x="latency_low:Q", x2="latency_high:Q")
    up = base.mark_rule(opacity=0.5).encode(y="accuracy_low:Q", y2="accuracy_high:Q")
    panels = alt.layer(across, up, discs, data=alt.Data(values=found)).properties(width=300, height=280)
    return panels.facet(column=alt.Column("runtime:N", title=None), title=report.title)


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
