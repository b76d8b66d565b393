"""For people who write plugins: `pqd new-plugin`."""

from __future__ import annotations

from collections.abc import Iterable

from pqd_core import CommandDef, hookimpl


@hookimpl
def pqd_commands() -> Iterable[CommandDef]:
    """One command."""
    yield CommandDef(
        name="new-plugin",
        summary="Write a complete plugin to start from: a working distribution with its tests.",
        load="pqd_author.new_plugin:new_plugin",
        example="pqd new-plugin low-rank --kind stage",
    )
