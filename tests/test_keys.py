"""Golden keys.

A content key is the name of finished work, on every machine and for years. The hashes below may change only in a
commit that says in the CHANGELOG that stored work is made again, and why: because `KEY_FORMAT` was raised, because a
default or a field of `Training`, `Baseline` or `Spec` that reaches a key was added, removed or changed, or because the
toys of `pqd_core.testing` did. A change that was not meant is a bug: everybody's store would silently be empty. Do not
update them to make a test pass; find out first which of these it is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import Bench

from pqd_core.host.keys import canonical_json, content_key, file_digest
from pqd_core.plan import build_plan, data_key

EMPTY = "3f0a99256beeb89a6b9f2793885291a6454928fd74903159ab2e51452b13df6f"
MIXED = "cc6b1bb9c6d31293ec555082d97e0d1ed70b1bee22f73120ad280f9cce175cc8"
DATA = "f99c7a6068eb231c5fe101450d0926cab317595d309c2b95dafdca3158799dc8"
STEPS = [
    "7bc6ec7f95bb9983ea2470130669d4783e4744ce11f8552c30d22027d1b26e10",
    "50d4b70da2ebdeca62ff748665a2998784af884ba85148b0eca3b079ac5d6172",
    "58e2b1d2abff6c415ae008b0bd857b8e0695cce5a617b185cc61e95396beb454",
]


def test_the_key_of_a_request_is_pinned() -> None:
    assert content_key() == EMPTY
    assert content_key(b=[1, 2.5, None, True], a={"z": "ü", "y": ""}) == MIXED


def test_the_keys_of_a_plan_are_pinned(bench: Bench) -> None:
    spec = bench.spec(
        backbone="toy-net",
        dataset={"use": "toy-blobs", "images": 120},
        baseline={"epochs": 3, "lr": 0.05},
        stages=[{"use": "nudge", "by": 0.5}, {"use": "toy-tune", "epochs": 2}],
        budget={"epochs": 4, "split": [1, 1]},
        seed=7,
    )
    assert data_key(spec, 7) == DATA
    assert [step.key for step in build_plan(spec, bench.host).steps] == STEPS


def test_a_key_is_64_hexadecimal_digits_and_does_not_depend_on_the_order_of_what_is_asked() -> None:
    assert len(content_key(a=1)) == 64
    assert content_key(a={"x": 1, "y": 2}, b=3) == content_key(b=3, a={"y": 2, "x": 1})
    assert content_key(a=[1, 2]) != content_key(a=[2, 1])


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, "1"), (None, "null"), (True, 1), ("", None), ([], {})])
def test_different_requests_have_different_keys(one: object, other: object) -> None:
    assert content_key(a=one) != content_key(a=other)


def test_a_value_that_json_has_no_word_for_is_refused() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            content_key(a=value)
    with pytest.raises(TypeError):
        content_key(a=Path("x"))


def test_canonical_json_is_plain_ascii_without_spaces() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "ü"}) == '{"a":"\\u00fc","b":[1,2.5]}'


def test_a_key_does_not_depend_on_the_process() -> None:
    code = "from pqd_core.host.keys import content_key; print(content_key(a={'x': 1, 'y': {'p': 2, 'q': 3}}))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {content_key(a={"y": {"q": 3, "p": 2}, "x": 1}) + "\n"}


def test_a_file_stands_for_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert file_digest(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
