"""Runtimes of strangers that cannot tell what they run of a file of any size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pqd_runtimes import onnx_runtime


class OfFixedSizes:
    """Its `execution` knows nothing of shapes."""

    input_shape, open_session = staticmethod(onnx_runtime.input_shape), staticmethod(onnx_runtime.open_session)
    weights = staticmethod(onnx_runtime.weights)

    @staticmethod
    def execution(file: Path, settings: Any) -> Any:
        return onnx_runtime.execution(file, settings)


class Crashing(OfFixedSizes):
    """It falls over when it is asked."""

    @staticmethod
    def execution(file: Path, settings: Any, shape: tuple[int, ...] | None = None) -> Any:
        os._exit(3)
