"""The report for people: a page that opens without a network, and Markdown with pictures.

This root is inert: records. The code behind each record is the module that its `load` names.
"""

from __future__ import annotations

from collections.abc import Iterable

from pqd_core import RendererDef, hookimpl


@hookimpl
def pqd_renderers() -> Iterable[RendererDef]:
    """Bring `html` and `markdown`."""
    return [
        RendererDef(
            name="html",
            summary="One self-contained page with interactive plots, sortable tables and how to reproduce them.",
            file="report.html",
            load="pqd_report.html:render",
            compare="pqd_report.html:render_comparison",
        ),
        RendererDef(
            name="markdown",
            summary="The same as Markdown, with its plots as SVG beside it.",
            file="report.md",
            load="pqd_report.markdown:render",
        ),
    ]
