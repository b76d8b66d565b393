"""Reports that strangers wrote: read as text, or refused with one clear message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import study

from pqd_core import PqdError
from pqd_core.host.render import render_table
from pqd_core.host.rows import Metric
from pqd_core.report import Report, read_report

Raw = dict[str, Any]


@pytest.fixture(scope="module")
def honest() -> str:
    return study((0,), pipelines=[(), ("magnitude",)]).model_dump_json()


def written(folder: Path, honest: str, change: Callable[[Raw], Any]) -> Report:
    raw = json.loads(honest)
    change(raw)
    (folder / "report.json").write_text(json.dumps(raw))
    return read_report(folder)


def renamed(runtime: str) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        for place in (*raw["rows"], *raw["analysis"]["summaries"]):
            place["runtime"] = runtime

    return change


def test_a_name_that_looks_like_markup_stands_in_the_table_as_it_is(tmp_path: Path, honest: str) -> None:
    table = render_table(written(tmp_path, honest, renamed("[/bold][red]")))
    assert table.count("[/bold][red]") == 4


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\r", "\x7f", "\x9b", "\ud800"])
def test_no_string_holds_a_control_character_or_half_of_a_pair(tmp_path: Path, honest: str, bad: str) -> None:
    def change(raw: Raw) -> None:
        renamed(f"o{bad}rt")(raw)
        raw["title"], raw["verdicts"], raw["spec"] = bad, [f"a\n\t{bad}b"], {f"x{bad}": [{"y": f"{bad}z"}]}
        raw["environment"]["platform"] = raw["plugins"][0]["name"] = f"L{bad}"
        raw["rows"][0]["metrics"]["accuracy"]["provenance"] = {"layers": {f"fc{bad}": 0.5}}

    found = written(tmp_path, honest, change)
    assert (found.title, found.verdicts, found.spec) == ("", ["a\n\tb"], {"x": [{"y": "z"}]})
    assert {row.runtime for row in found.rows} == {"ort"}
    text = found.model_dump_json()
    assert bad not in text
    assert json.dumps(bad)[1:-1] not in text


def test_a_cause_in_colours_is_kept_as_plain_text() -> None:
    assert Metric(value=None, unit="1", better="higher", missing="\x1b[31mno\x1b[0m").missing == "[31mno[0m"


@pytest.mark.parametrize(
    ("place", "number"),
    [
        *((place, number) for place in ("seconds", "provenance") for number in ("NaN", "Infinity", "-1e999")),
        ("seconds", '"nan"'),
    ],
)
def test_a_number_that_is_none_is_refused(tmp_path: Path, honest: str, place: str, number: str) -> None:
    raw = json.loads(honest)
    holder = raw if place == "seconds" else raw["rows"][0]["metrics"]["accuracy"][place]
    holder["seconds"] = "HERE"
    (tmp_path / "report.json").write_text(json.dumps(raw).replace('"HERE"', number))
    with pytest.raises(PqdError, match="it is no report of this version"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["analysis"]["summaries"][2].update(pipeline=["unheard-of"]),
        lambda raw: raw["environment"].update(cpu="fast"),
        lambda raw: raw["environment"].update(versions=["torch"]),
        lambda raw: raw.update(plugins=[{}]),
        lambda raw: raw.update(rows=[]),
    ],
)
def test_a_file_that_only_looks_like_a_report_is_refused(tmp_path: Path, honest: str, change: Any) -> None:
    with pytest.raises(PqdError, match="it is no report of this version") as refused:
        written(tmp_path, honest, change)
    assert refused.value.exit_code == 2
