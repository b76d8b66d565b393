"""The parts of docs/ that are taken from the code; `python tests/pages.py` writes them, test_docs.py compares them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from pydantic import BaseModel

import pqd_core
import pqd_core.testing
from pqd_core import hookspecs
from pqd_core.host.plugins import BRINGS
from pqd_core.testing.case import CHECKS
from pqd_core.testing.kit import _load_checks

DOCS = Path(__file__).parent.parent / "docs"
HOOKS = [name for name in vars(hookspecs) if name.startswith("pqd_")]
RECORDS = [*(kind for _, kind in BRINGS.values()), pqd_core.FactDef, pqd_core.MetricDef]
ASKED_OF = ("ComponentDef", *(kind.__name__ for kind in RECORDS))


def signature(function: Any) -> str:
    """As a person would write it."""
    text = str(inspect.signature(function))
    return re.sub(r"'([^']*)'", r"\1", text)


def hook_signature(hook: str) -> str:
    """Its name, arguments and answer."""
    return f"{hook}{signature(getattr(hookspecs, hook))}"


def first_sentence(thing: Any) -> str:
    """Of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def checks_table() -> str:
    """Every check of the kit, by what it is asked of."""
    _load_checks()
    lines = ["| asked of | check | what then holds |", "|---|---|---|"]
    for kind in ASKED_OF:
        for check in CHECKS.values():
            kinds = check.of if isinstance(check.of, tuple) else (check.of,)
            if kind in [k.__name__ for k in kinds]:
                asked = "all" if kind == "ComponentDef" else f"`{kind}`"
                lines.append(f"| {asked} | `{check.name}` | {check.says} |")
    return "\n".join(lines)


def pinned() -> str:
    """Every public name, hook and field."""
    return "\n".join(_pinned())


def _pinned() -> Iterator[str]:
    yield "## Hooks\n\n```text"
    yield from (hook_signature(hook) for hook in HOOKS)
    yield "```\n\n## Records\n\n```text"
    yield from (f"{record.__name__}({', '.join(_fields(record))})" for record in RECORDS)
    yield "```\n\n## Names of pqd_core\n\n```text"
    yield from (_described(name, getattr(pqd_core, name)) for name in pqd_core.__all__)
    yield "```\n\n## Names of pqd_core.testing\n\n```text"
    yield from (_described(name, getattr(pqd_core.testing, name)) for name in pqd_core.testing.__all__)
    yield "```"


def _fields(record: type[Any]) -> Iterator[str]:
    for field in (field for field in attrs.fields(record) if not field.name.startswith("_")):
        yield field.name + ("" if field.default is attrs.NOTHING else "=")


def _described(name: str, thing: Any) -> str:
    if inspect.isfunction(thing):
        return f"{name}{signature(thing)}"
    if inspect.isclass(thing) and issubclass(thing, BaseModel):
        return f"{name}: {', '.join(thing.model_fields) or 'no fields'}"
    if inspect.isclass(thing) and attrs.has(thing):
        return f"{name}({', '.join(_fields(thing))})"
    return name


PARTS = {("plugins.md", "checks"): checks_table, ("stability.md", "pinned"): pinned}


def part(page: str, name: str) -> str:
    """What stands in a page between the marks of that name."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0].strip()


def write(page: str, name: str, content: str) -> None:
    """Put `content` between the marks."""
    file = DOCS / page
    before, start, rest = file.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    file.write_text(f"{before}{start}{content}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    for (page, name), make in PARTS.items():
        write(page, name, make())
