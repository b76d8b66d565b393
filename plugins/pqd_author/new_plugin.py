"""`pqd new-plugin`: a distribution that works and passes its tests, to be changed into one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated, Literal

import typer
from attrs import frozen

from pqd_core import PqdError, Problem, installed

Kind = Literal["stage", "backbone", "dataset", "runtime", "measurer"]
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
PREFIX = "pqd-"
LONGEST = 40


class _Refused(PqdError):
    """A name or a folder that cannot be used."""

    exit_code = 2


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the component is called in specs, as low-rank.")],
    kind: Annotated[Kind, typer.Option(help="What the plugin brings.")] = "stage",
    folder: Annotated[Path, typer.Option(help="Where the distribution's own folder is made.")] = Path(),
) -> None:
    """Write a new distribution, `pqd-NAME`."""
    names = names_of(name, kind)
    place = write_plugin(names, kind, folder)
    typer.echo(f"{place}: a {kind} that works, and its tests; next:")
    typer.echo(f"  cd {place}\n  pip install -e . --group test\n  pytest\n  pqd plugins -v")


@frozen
class Names:
    """The names that one name leads to."""

    component: str

    @property
    def distribution(self) -> str:
        """Of the package index, and of the folder."""
        return PREFIX + self.component

    @property
    def module(self) -> str:
        """Of the package that is imported."""
        return self.distribution.replace("-", "_")

    @property
    def title(self) -> str:
        """Of classes."""
        return "".join(part.capitalize() for part in self.component.split("-"))


def names_of(name: str, kind: str) -> Names:
    """The names, which nothing installed has.

    Raises:
        PqdError: the name is none, or is taken.
    """
    names = Names(name.removeprefix(PREFIX))
    if not NAME.fullmatch(names.component) or len(names.component) > LONGEST:
        what = f"'{name}' cannot be a name"
        raise _Refused(Problem("NAME", what, f"take up to {LONGEST} of a-z, 0-9 and single hyphens, a letter first"))
    if find_spec(names.module) is not None:
        raise _Refused(Problem("NAME", f"a package {names.module} is installed already", "take another name"))
    if names.component in set(installed(kind).names()):
        raise _Refused(Problem("NAME", f"a {kind} named {names.component} is installed already", "take another name"))
    return names


def write_plugin(names: Names, kind: str, folder: Path) -> Path:
    """The folder of the new distribution, complete; nothing that was there before is touched.

    Raises:
        PqdError: there is something of that name already, or it cannot be written.
    """
    place = folder / names.distribution
    try:
        place.mkdir(parents=True)
        for path, text in contents(names, kind):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text, encoding="utf-8")
    except FileExistsError as error:
        hint = "nothing was changed; take another name, or another --folder"
        raise _Refused(Problem(str(place), "is there already", hint)) from error
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise _Refused(Problem(str(place), what, "choose another place with --folder")) from error
    return place


def contents(names: Names, kind: str) -> Iterator[tuple[str, str]]:
    """Path and text of each file of the distribution."""
    words = {"name": names.component, "dist": names.distribution, "module": names.module, "title": names.title}
    words |= {"kind": kind, "hook": f"pqd_{kind}s", "metric": names.component.replace("-", "_")}
    shelf = files("pqd_author") / "templates"
    for part in ("all", kind):
        for path, template in _templates(shelf / part, ""):
            yield Template(path).substitute(words), Template(template).substitute(words)


def _templates(folder: Traversable, below: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, f"{below}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield f"{below}{entry.name.removesuffix(SUFFIX)}", entry.read_text(encoding="utf-8")


SUFFIX = ".template"
"""So that no tool takes a template for the file that it becomes."""
