"""A runtime in numpy: weights as safetensors, the network as a list of operations in JSON."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pqd_core import RuntimeDef, Settings, hookimpl


class NumpySettings(Settings):
    """What is opened at all."""

    max_megabytes: int = Field(1024, ge=1, description="Files larger than this are not opened.")


@hookimpl
def pqd_runtimes() -> Iterable[RuntimeDef]:
    """One runtime."""
    yield RuntimeDef(
        name="numpy",
        summary="A few float operators in numpy, for machines with nothing else.",
        settings=NumpySettings,
        load="pqd_numpy_runner.runtime",
        requires=("numpy", "safetensors"),
    )
