import json

import numpy as np
import pytest
from pqd_tracker import FILE, pqd_measurers
from pqd_tracker.entropy import entropy_bits

from pqd_core.testing import parametrize_with_checks


@parametrize_with_checks(pqd_measurers())
def test_it_keeps_the_contract(check):
    check()


@pytest.mark.parametrize(("values", "bits"), [([1, 1], 0), ([0, 1], 1), ([0, 1, 2, 3], 2), ([0, 0, 0, 1], 0.811278)])
def test_the_entropy_is_shannons(values, bits):
    assert entropy_bits(np.array(values)) == pytest.approx(bits, abs=1e-6)


def test_a_run_leaves_a_line_for_each_step_and_row(pqd_project, tmp_path, monkeypatch):
    file = tmp_path / "tracked.jsonl"
    monkeypatch.setenv(FILE, str(file))
    report = pqd_project.run(pqd_project.spec(runtimes=["toy-torch"], measure=["entropy"]))
    assert report.problems == []
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["event"] for event in events] == ["step", "step", "row", "row"]
    assert [event["reused"] for event in events[:2]] == [False, False]
    assert all(event["entropy_bits"] > 0 for event in events[2:])


def test_without_a_file_nothing_is_tracked(pqd_project, tmp_path, monkeypatch):
    monkeypatch.delenv(FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    pqd_project.run(pqd_project.spec(runtimes=["toy-torch"], measure=["entropy"]))
    assert not list(tmp_path.glob("*.jsonl"))
