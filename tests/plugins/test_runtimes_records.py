"""The runtimes are known before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runtime_kit import NAMES, RECORDS


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_three_runtimes_are_brought() -> None:
    assert tuple(RECORDS) == NAMES


def test_collecting_the_records_imports_nothing_heavy() -> None:
    assert not modules_after("import pqd_runtimes; list(pqd_runtimes.pqd_runtimes())") & {
        "torch",
        "numpy",
        "onnx",
        "onnxruntime",
        "openvino",
    }


@pytest.mark.parametrize("module", ["onnx_runtime", "openvino_runtime"])
def test_running_a_file_needs_no_torch(module: str) -> None:
    """A process that measures latency holds the runtime alone."""
    assert "torch" not in modules_after(f"import pqd_runtimes.{module}")
