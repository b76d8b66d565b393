"""The runtimes are known before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runtime_kit import NAMES, RECORDS

from pqd_core import describe_cpu
from pqd_runtimes import OpenVinoSettings


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


def test_only_timed_files_are_of_a_cpu_and_of_threads() -> None:
    tuned_to = RECORDS["openvino"].tuned_to
    assert tuned_to is not None
    assert tuned_to(OpenVinoSettings(), 2) == {}
    told, cpu = tuned_to(OpenVinoSettings(kernels_for_batch=8), 2), describe_cpu()
    assert told == {"cpu": {key: cpu[key] for key in ("model", "architecture", "flags")}, "threads": 2}
    assert [RECORDS[name].tuned_to for name in NAMES if name != "openvino"] == [None, None]


def test_what_a_file_is_tuned_to_is_told_without_torch() -> None:
    """`pqd plan` asks for it."""
    asked = "import pqd_runtimes as r; r.timed_on(r.OpenVinoSettings(kernels_for_batch=8), 2)"
    assert not modules_after(asked) & {"torch", "openvino"}


@pytest.mark.parametrize("module", ["onnx_runtime", "openvino_runtime"])
def test_running_a_file_needs_no_torch(module: str) -> None:
    """A process that measures latency holds the runtime alone."""
    assert "torch" not in modules_after(f"import pqd_runtimes.{module}")
