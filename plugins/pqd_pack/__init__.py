"""Packed files: what a compressed network weighs when its zeros and its INT8 weights are entropy-coded.

This root is inert: records and settings. `docs/pack.md` describes the format.
"""

from __future__ import annotations

from pqd_core import CommandDef, MeasurerDef, MetricDef, Settings, hookimpl

SIZE_PACKED = MetricDef("size_packed_bytes", "bytes", "lower")
MAX_MEGABYTES = 2048


@hookimpl
def pqd_commands() -> list[CommandDef]:
    """`pqd pack` and `pqd unpack`."""
    return [
        CommandDef(
            name="pack",
            summary="Pack a deployable file losslessly, INT8 weights near their entropy.",
            load="pqd_pack.commands:pack",
            example="pqd pack model.onnx -o model.pqdz",
        ),
        CommandDef(
            name="unpack",
            summary="Give a packed file back bit for bit, or list what is in it.",
            load="pqd_pack.commands:unpack",
            example="pqd unpack model.pqdz -o folder",
        ),
    ]


@hookimpl
def pqd_measurers() -> list[MeasurerDef]:
    """The size that a deployed file has when it is packed."""
    return [
        MeasurerDef(
            name="packed-size",
            summary="Bytes of the deployed file when it is packed by `pqd pack`.",
            load="pqd_pack.size",
            settings=Settings,
            metrics=(SIZE_PACKED,),
            version="2",
        )
    ]
