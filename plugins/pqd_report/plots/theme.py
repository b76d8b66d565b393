"""Colours and type of all plots, for light and for dark."""

from __future__ import annotations

from typing import Any

import altair as alt

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LIGHT = {"ink": "#1b1f24", "faint": "#59636e", "rule": "#d5dae0", "paper": "#ffffff"}
DARK = {"ink": "#e8eaed", "faint": "#a3acb8", "rule": "#3a4149", "paper": "#15181c"}
OKABE_ITO_LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
"""Okabe and Ito's palette, which colour-blind readers can tell apart; the darker ones first, on light paper. Their
colours end here: from the seventh stage on they come again, with other shapes and dashes."""
OKABE_ITO_DARK = ["#56B4E9", "#E69F00", "#00B98A", "#CC79A7", "#F0E442", "#D55E00"]
SHAPES = [
    *("circle", "square", "triangle-up", "diamond", "cross", "triangle-down"),
    "M-.9,-.5L-.5,-.9L0,-.4L.5,-.9L.9,-.5L.4,0L.9,.5L.5,.9L0,.4L-.5,.9L-.9,.5L-.4,0Z",  # a cross that leans
    "triangle-left",
    "M0,-1L.28,-.38L.95,-.31L.45,.15L.59,.81L0,.47L-.59,.81L-.45,.15L-.95,-.31L-.28,-.38Z",  # a star
    "M-.9,-.9L.9,-.9L-.9,.9L.9,.9Z",  # an hourglass
    "triangle-right",
    "M-.35,-1L.35,-1L.35,1L-.35,1Z",  # a bar
]
"""Twelve stages have a shape each, so that no reading depends on colour alone; more than twelve begin anew."""
SOLID = [1, 0]
DASHES = [
    *(SOLID, [7, 3], [2, 2], [9, 3, 2, 3], [14, 4], [6, 2, 2, 2, 2, 2]),
    *([1, 3], [4, 4], [14, 3, 2, 3], [9, 3, 4, 3], [14, 3, 6, 3], [3, 2, 1, 2]),
]
"""Of a stage's curves."""
GREY = "#8a929b"
"""Of the dense baseline; has enough contrast on both papers."""


def config(colours: dict[str, str], palette: list[str]) -> dict[str, Any]:
    """A configuration of Vega-Lite."""
    text = {"labelColor": colours["faint"], "titleColor": colours["ink"], "labelFont": FONT, "titleFont": FONT}
    axis = {"gridColor": colours["rule"], "domainColor": colours["rule"], "tickColor": colours["rule"]}
    return {
        "background": None,
        "font": FONT,
        "padding": 4,
        "view": {"stroke": colours["rule"]},
        "axis": {
            **text,
            **axis,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "labelOverlap": True,
        },
        "legend": {**text, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500, "symbolStrokeWidth": 2},
        "header": {**text, "labelFontSize": 13, "labelFontWeight": 600},
        "title": {"color": colours["ink"], "font": FONT, "fontSize": 13, "fontWeight": 600, "anchor": "start"},
        "text": {"color": colours["ink"], "font": FONT},
        "rule": {"color": colours["faint"]},
        "range": {"category": palette, "symbol": SHAPES},
        "style": {"guide-label": {"font": FONT}, "guide-title": {"font": FONT}},
    }


Spec = dict[str, Any]
"""A chart as Vega-Lite describes it."""


def stage_legend(**about: Any) -> alt.Legend:
    """The stages below a plot, in lines of three, which have room on a phone."""
    return alt.Legend(orient="bottom", columns=3, labelLimit=96, columnPadding=8, **about)


def inline(values: list[dict[str, Any]]) -> alt.Data:
    """Data that stand in the chart itself."""
    return alt.Data(values=values)  # type: ignore[no-untyped-call]


THEMES = {"light": config(LIGHT, OKABE_ITO_LIGHT), "dark": config(DARK, OKABE_ITO_DARK)}
