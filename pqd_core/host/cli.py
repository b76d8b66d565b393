"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import sys
from errno import EACCES, ENAMETOOLONG, EPERM
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from pqd_core import __version__
from pqd_core.host.commands import Commands
from pqd_core.host.errors import Interrupted, PqdError, Problem


class _Commands(Commands):
    """All commands, of which Ctrl-C ends none without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted; nothing that was finished is lost, run again to go on") from error


app = typer.Typer(
    name="pqd",
    cls=_Commands,
    help="Compress a network by an ordered pipeline of stages, measured on the file that would be deployed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="A spec's file, or the name of a recipe.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the spec.")
]
StoreOption = Annotated[Path | None, typer.Option(help="Where finished work is kept; PQD_STORE if not given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: pqd run quickstart --set stages.0.sparsity=0.9 --out my-run")
def run(
    spec: SpecArgument,
    out: Annotated[Path | None, typer.Option(help="Run folder; pqd-runs/NAME if not given.")] = None,
    set_: SetOption = None,
    store: StoreOption = None,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure again what was measured before.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Steps and deployments to make at once, as cores allow.")] = 1,
) -> None:
    """Run a spec: train, compress, deploy, measure and report. Running again goes on where it ended."""
    from pqd_core.host.terminal import run_on_terminal

    raise typer.Exit(run_on_terminal(spec, set_ or [], out, store, remeasure, jobs))


@app.command(epilog="Example: pqd plan quickstart --json")
def plan(spec: SpecArgument, set_: SetOption = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show the tree of steps that a spec asks for, its epochs, and what is done already."""
    from pqd_core.artifact import Store
    from pqd_core.host.outline import plan_json, plan_text
    from pqd_core.host.paths import default_store
    from pqd_core.host.read_spec import read_specs
    from pqd_core.plan import build_plan

    plans, shelf = [build_plan(one) for one in read_specs(spec, set_ or [])], Store(store or default_store())
    typer.echo(
        json.dumps([plan_json(p, shelf) for p in plans], indent=1)
        if as_json
        else "\n\n".join(plan_text(p, shelf) for p in plans)
    )


@app.command(epilog="Example: pqd plugins -v")
def plugins(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also hooks, summaries and causes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which plugin brought what, and which failed to load."""
    from pqd_core.host.listing import plugins_json, plugins_text
    from pqd_core.host.plugins import default_host

    host = default_host()
    typer.echo(json.dumps(plugins_json(host), indent=1) if as_json else plugins_text(host, verbose))


@app.command(epilog="Example: pqd schema > pqd.schema.json")
def schema(
    report: Annotated[bool, typer.Option("--report", help="That of report.json instead.")] = False,
) -> None:
    """Print the JSON Schema of specs, for editors; it covers what is installed."""
    if report:
        from pqd_core.report import Report

        described = Report.model_json_schema()
    else:
        from pqd_core.spec import Spec

        described = Spec.model_json_schema()
    typer.echo(json.dumps(described, indent=1))


@app.command(epilog="Example: pqd report pqd-runs/quickstart --open")
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    other: Annotated[Path | None, typer.Argument(metavar="OTHER", help="Another one, to compare with.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open its page in the browser.")] = False,
    render: Annotated[bool, typer.Option("--render", help="Write its page and its other forms again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the report of a finished run, or what differs between two runs."""
    from pqd_core.host.report_command import show, show_both

    if other:
        show_both(folder, other, open_, render, as_json)
    else:
        show(folder, open_, render, as_json)


@app.command(epilog="Example: pqd recipes; pqd run quickstart")
def recipes() -> None:
    """List the specs that can be run by name."""
    from pqd_core.host.listing import recipes_text
    from pqd_core.host.plugins import default_host

    typer.echo(recipes_text(default_host()))


@app.command(epilog="Example: pqd doctor")
def doctor(as_json: JsonOption = False) -> None:
    """Look at this machine and at what is installed: CPU, threads, runtimes, noise, the store, plugins."""
    from attrs import asdict

    from pqd_core.host.doctor import examine
    from pqd_core.host.plugins import default_host

    told = examine(default_host())
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in told], indent=1))
        return
    for one in told:
        typer.echo(str(one))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pqd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The `pqd` command: a person's mistake is told in a few lines, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no box lines gets question marks
    try:
        app()
    except PqdError as error:
        for problem in error.problems:
            typer.echo(f"pqd: {problem}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"pqd: {_refused(error)}", err=True)
        sys.exit(1)


def _refused(error: OSError) -> PqdError:
    """What the operating system refuses, told to a person; anything else is no refusal, and is raised again."""
    from pqd_core.host.paths import FULL, store_error

    if error.errno in FULL:
        return store_error(Path(error.filename or "the disk"), error)
    if error.errno not in (EACCES, EPERM, ENAMETOOLONG):
        raise error
    return PqdError(Problem(str(error.filename or "a file"), error.strerror or str(error), "correct the path"))
