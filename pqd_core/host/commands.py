"""The commands that plugins bring, beside the core's own; a command's code is imported when it is called."""

from __future__ import annotations

from typing import Any

import typer
import typer.core
import typer.main

from pqd_core.host.errors import PluginError, Problem, did_you_mean
from pqd_core.host.registry import Owned, UnknownName
from pqd_core.records import CommandDef, resolve


class Commands(typer.core.TyperGroup):
    """The core's commands, then those of the installed plugins; of two with one name `plugin:name` is each."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, the core's own first."""
        from pqd_core.host.plugins import default_host

        own = super().list_commands(ctx)
        return [*own, *(name for name in default_host().registry("command").names() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None if there is none."""
        from pqd_core.host.plugins import default_host

        if own := super().get_command(ctx, cmd_name):
            return own
        try:
            return _Brought(default_host().registry("command").find(cmd_name))
        except UnknownName:
            return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called; of one that there is not, which are near, and who may have brought it."""
        from pqd_core.host.plugins import default_host

        if args[0].startswith("-") or self.get_command(ctx, args[0]):
            return super().resolve_command(ctx, args)
        names = self.list_commands(ctx)
        full = [name for name in names if name.endswith(f":{args[0]}")]
        hint = f"write {' or '.join(full)}" if full else did_you_mean(args[0], names)
        return ctx.fail(f"No such command '{args[0]}'; {hint}{default_host().registry('command').suspicion}")


class _Brought(typer.core.TyperCommand):
    """Stands for a plugin's command in the list of all; becomes it when called."""

    def __init__(self, owned: Owned[CommandDef]) -> None:
        super().__init__(owned.record.name, help=owned.record.summary)
        self.owned = owned

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._loaded().make_context(info_name, args, parent, **extra)

    def _loaded(self) -> Any:
        record = self.owned.record
        try:
            return as_typer(record)
        except Exception as error:
            what = f"cannot be loaded: {type(error).__name__}: {error}"
            hint = f"it comes from the plugin {self.owned.plugin}; see pqd plugins -v"
            raise PluginError(Problem(f"pqd {record.name}", what, hint)) from error


def as_typer(record: CommandDef) -> Any:
    """The command of a record, its code imported."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.command(record.name, help=record.summary, epilog=f"Example: {record.example}")(resolve(record.load))
    return typer.main.get_command(app)
