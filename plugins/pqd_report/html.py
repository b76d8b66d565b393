"""`report.html`: one file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from pqd_core import Comparison, Report
from pqd_report import comparison_tables, plot_tables, tables
from pqd_report.figures import Figure, comparison_figures, figures, stages_of
from pqd_report.names import Letters, letters
from pqd_report.plots import changes
from pqd_report.plots.theme import THEMES
from pqd_report.reproduce import commands, environment, spec_yaml

SECTIONS = ("frontier", "effects", "curves", "layers")


def render(report: Report) -> dict[str, str]:
    """The page."""
    short, spec = letters(stages_of(report)), spec_yaml(report)
    drawn = list(figures(report, short))
    page = _page(
        "report.html.jinja",
        drawn,
        short,
        version=report.environment.get("versions", {}).get("pqd", ""),
        report=report,
        pipelines=len({row.pipeline for row in report.rows}),
        runtimes=list(dict.fromkeys(row.runtime for row in report.rows)),
        figures={section: [f for f in drawn if f.section == section] for section in SECTIONS},
        orders=tables.order_table(report, short),
        differences=tables.difference_table(report),
        effects=tables.effect_table(report),
        tests=tables.order_tests(report),
        goals=list(tables.goal_tables(report)),
        steps=tables.step_table(report),
        curve_numbers=plot_tables.curve_table(report, short),
        layer_numbers=plot_tables.layer_tables(report, short),
        environment=environment(report),
        commands=commands(report),
        spec=spec,
        spec_url=_as_url(spec),
    )
    return {"report.html": page}


def render_comparison(found: Comparison) -> dict[str, str]:
    """The page of two runs."""
    short = letters(stage for pair in found.pairs for stage in pair.pipeline)
    drawn = list(comparison_figures(found, short))
    page = _page(
        "comparison.html.jinja",
        drawn,
        short,
        version=version("pqd"),
        found=found,
        figures=drawn,
        unchanged=changes.unchanged(found),
        differences=comparison_tables.difference_table(found),
        pairs=comparison_tables.pair_table(found),
    )
    return {"report.html": page}


def _page(template: str, drawn: Sequence[Figure], short: Letters, **given: Any) -> str:
    script = _part("report.js")
    return (
        _templates()
        .get_template(template)
        .render(
            key=", ".join(f"{letter} {stage}" for stage, letter in short.of.items()),
            data={"charts": {f.name: {"spec": f.spec, "patch": f.patch} for f in drawn}, "themes": THEMES},
            style=_part("report.css"),
            library=_library(),
            script=script,
            hashes=" ".join(f"'{_hash(text)}'" for text in (_library(), script)),
            **given,
        )
    )


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; a request to the network is no part of it."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in bundle.lower():
        raise ValueError("the plotting library cannot stand in a page")
    return bundle


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("pqd_report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _part(name: str) -> str:
    return files("pqd_report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What the page's policy lets run: this script and no other, wherever it might come from."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _as_url(text: str) -> str:
    return "data:application/yaml;base64," + base64.b64encode(text.encode()).decode()
