"""The seam for forms of the report: who may write what, and what happens when one fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from bench import Bench

from pqd_core import RendererDef, Report, hookimpl
from pqd_core.host.plugins import register_plugin


def renderer(name: str, files: Mapping[str, str | bytes] | Exception) -> RendererDef:
    def render(report: Report) -> Mapping[str, str | bytes]:
        if isinstance(files, Exception):
            raise files
        return files

    return RendererDef(name=name, summary="A form.", file=f"{name}.tex", load=render)


def test_a_plugin_brings_a_form_of_its_own(bench: Bench) -> None:
    @hookimpl
    def pqd_renderers() -> list[RendererDef]:
        return [renderer("latex", {"latex.tex": r"\begin{document}", "plots/a.png": b"\x89PNG"})]

    register_plugin(bench.host, SimpleNamespace(pqd_renderers=pqd_renderers, __name__="p"), "stranger")
    report = bench.run()
    assert (bench.folder / "out" / "latex.tex").read_text() == r"\begin{document}"
    assert (bench.folder / "out" / "plots" / "a.png").read_bytes() == b"\x89PNG"
    assert report.problems == []


def test_a_form_that_fails_is_listed_and_the_others_are_written(bench: Bench) -> None:
    bench.host.add("stranger", renderer("bad", ZeroDivisionError("no points")))
    bench.host.add("stranger", renderer("good", {"good.tex": "fine"}))
    report = bench.run()
    assert report.complete, "a form says nothing of the numbers"
    assert report.problems == [
        "bad.tex is not written: renderer stranger:bad failed: ZeroDivisionError('no points')",
    ]
    assert json.loads((bench.folder / "out" / "report.json").read_text())["problems"] == report.problems
    assert (bench.folder / "out" / "good.tex").read_text() == "fine"


@pytest.mark.parametrize("place", ["../out.tex", "/etc/x", "report.json", "deployed/x", ".hidden", "", "a/../../b"])
def test_a_form_writes_nowhere_else(bench: Bench, place: str) -> None:
    bench.host.add("stranger", renderer("bad", {place: "x"}))
    (problem,) = bench.run().problems
    assert "is no place for a renderer's file" in problem
    assert not (bench.folder / "out.tex").exists()


@pytest.mark.parametrize("file", ["", "../x", "a/b.html", ".html"])
def test_a_form_has_a_plain_file_name(file: str) -> None:
    with pytest.raises(ValueError, match="file"):
        RendererDef(name="a", summary="s", file=file, load=lambda report: {})


def test_a_form_is_written_again_when_an_observer_failed(bench: Bench) -> None:
    seen: list[int] = []

    def render(report: Report) -> dict[str, Any]:
        seen.append(len(report.problems))
        return {"a.tex": "x"}

    @hookimpl
    def pqd_run_finished(report: Report) -> None:
        raise RuntimeError("no network")

    bench.host.add("stranger", RendererDef(name="a", summary="A form.", file="a.tex", load=render))
    register_plugin(bench.host, SimpleNamespace(pqd_run_finished=pqd_run_finished, __name__="q"), "watcher")
    bench.run()
    assert seen == [0, 1]
