"""The table of docs/int8.md says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RESULT = ROOT / "benchmarks/results/int8_sweep.json"


@pytest.mark.skipif(not RESULT.exists(), reason="the source distribution has no benchmark results")
def test_the_table_of_the_int8_sweep_is_its_result() -> None:
    numbers = json.loads(RESULT.read_text(encoding="utf-8"))["numbers"]
    page = (ROOT / "docs/int8.md").read_text(encoding="utf-8")
    table = page.partition("<!-- results:int8_sweep -->")[2].partition("<!-- end -->")[0]
    rows = {row.split("`")[1]: row for row in table.splitlines() if "`" in row}
    assert rows.keys() == numbers.keys()
    for model, found in numbers.items():
        assert f"{found['int8_layers']} of {found['layers']}" in rows[model]
        for agreement in found["agreement"].values():
            assert f"{agreement['rms']:.1%}, {agreement['changed']}" in rows[model]
