"""What is asked of commands: help that helps, and errors that a person understands."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import attrs

from pqd_core.host.commands import as_typer
from pqd_core.host.errors import PqdError
from pqd_core.records import CommandDef
from pqd_core.testing.case import Case, CheckFailed, check, require
from pqd_core.testing.workshop import workshop

NONSENSE = "nothing-is-called-this"


@attrs.frozen
class Ended:
    """How a call ended, and what it said."""

    code: int
    said: str


def call(case: Case, *arguments: str) -> Ended:
    """Call the command in an empty folder, as `pqd` would.

    Raises:
        Exception: what the command raises that `pqd` does not turn into a message.
    """
    assert isinstance(case.record, CommandDef)
    said, before = io.StringIO(), os.getcwd()  # noqa: PTH109 - to come back to
    os.chdir(workshop(case).new_folder("called"))
    try:
        with redirect_stdout(said), redirect_stderr(said):
            as_typer(case.record).main(list(arguments), prog_name=f"pqd {case.name}")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return Ended(code, said.getvalue())
    except PqdError as error:
        return Ended(error.exit_code, said.getvalue() + "; ".join(map(str, error.problems)))
    finally:
        os.chdir(before)
    return Ended(0, said.getvalue())


@check(CommandDef)
def help_says_what_it_does(case: Case) -> None:
    """`--help` ends well, and shows the summary and the example, which calls the command by its name."""
    assert isinstance(case.record, CommandDef)
    ended = call(case, "--help")
    require(ended.code == 0, f"--help ends with {ended.code}")
    words = " ".join(ended.said.split())
    require(case.record.summary in words, "--help does not show the summary")
    example = f"pqd {case.name}"
    require(example in case.record.example, f"the example does not call `{example}`: {case.record.example}")


@check(CommandDef)
def wrong_arguments_are_refused_with_a_reason(case: Case) -> None:
    """An option that there is not, and arguments that name nothing, end in a message and no traceback."""
    for arguments in (("--nothing-is-called-this",), (NONSENSE,) * _required(case)):
        shown = " ".join(arguments) or "no argument"
        try:
            ended = call(case, *arguments)
        except Exception as error:
            hint = "raise a PqdError that says what is wrong and what to do"
            raise CheckFailed(f"{shown}: a traceback of {type(error).__name__}: {error}; {hint}") from error
        require(ended.code == 0 or ended.said.strip(), f"{shown}: ends with {ended.code} and says nothing")
    require(call(case, "--nothing-is-called-this").code != 0, "takes an option that there is not")


def _required(case: Case) -> int:
    """How many arguments it cannot do without."""
    assert isinstance(case.record, CommandDef)
    parameters: list[Any] = as_typer(case.record).params
    return sum(1 for parameter in parameters if parameter.param_type_name == "argument" and parameter.required)
