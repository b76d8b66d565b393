"""Labels that keep clear of one another, which Vega can do and Vega-Lite cannot say."""

from __future__ import annotations

from typing import Any

import vl_convert

ANCHORS = ["right", "top-right", "bottom-right", "top", "bottom", "left", "top-left", "bottom-left"]
UNPLACED = ("x", "y", "dx", "dy", "align")
"""What the layout finds by itself."""


def label_patch(chart: dict[str, Any], marks: str, field: str) -> list[dict[str, Any]]:
    """A JSON Patch of the compiled chart: its text labels the chart named `marks` wherever there is room.

    It needs a browser, which measures text; a picture made without one keeps its labels where they are.
    """
    compiled = vl_convert.vegalite_to_vega(chart)
    at = next(i for i, mark in enumerate(compiled["marks"]) if mark["type"] == "text")
    update = f"/marks/{at}/encode/update"
    layout = {
        "type": "label",
        "size": {"signal": "[max(width, 50), height]"},
        "anchor": ANCHORS,
        "offset": [3],
        "avoidBaseMark": True,
        "padding": 60,
    }
    return [
        {"op": "replace", "path": f"/marks/{at}/from", "value": {"data": f"{marks}_marks"}},
        {"op": "replace", "path": f"{update}/text", "value": {"field": f"datum.{field}"}},
        *(
            {"op": "remove", "path": f"{update}/{key}"}
            for key in compiled["marks"][at]["encode"]["update"]
            if key in UNPLACED
        ),
        {"op": "add", "path": f"/marks/{at}/transform", "value": [layout]},
    ]
