"""The table of docs/int8.md has a row for each family of the sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sweep import FAMILIES

PAGE = Path(__file__).parent.parent.parent / "docs/int8.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the source distribution has no docs")
def test_every_family_of_the_sweep_has_a_row() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("<!-- results:int8_sweep -->")[2].partition("<!-- end -->")[0]
    rows = {row.split("`")[1] for row in table.splitlines() if "`" in row}
    assert rows == {family.model for family in FAMILIES}
