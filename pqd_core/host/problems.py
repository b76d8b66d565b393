"""pydantic's errors in a person's words: each at its place, unknown keys with the nearest known one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pqd_core.host.errors import Problem, did_you_mean

PLAINLY = {
    "tuple_type": "expected a list",
    "model_type": "expected a mapping of keys to values",
    "path_type": "expected the path of a file or folder",
    "path_not_file": "path does not point to a file",
}
"""For a type of pydantic's errors, what a person who writes YAML calls it."""


def unknown_keys_named(error: ValidationError, model: type[BaseModel]) -> list[ErrorDetails]:
    """The errors of `model`, where an unknown key says which known one it resembles."""
    details = error.errors(include_url=False)
    for problem in details:
        if problem["type"] == "extra_forbidden":
            *path, key = problem["loc"]
            problem["type"] = "unknown_key"
            problem["msg"] = f"unknown key; {did_you_mean(str(key), _keys_at(model, path))}"
        problem["msg"] = PLAINLY.get(problem["type"], problem["msg"]) + _what_next(problem)
    return details


def _what_next(problem: ErrorDetails) -> str:
    """How to write one thing where a list is expected; where a file was looked for."""
    given = problem["input"]
    if problem["type"] == "tuple_type" and (isinstance(given, str | int | float) or _is_entry(given)):
        return f"; write [{given}]"
    if problem["type"] == "path_not_file":
        return f": {given}" + ("" if Path(given).is_absolute() else f", looked for in {Path.cwd()}")
    return ""


def _is_entry(given: object) -> bool:
    return isinstance(given, Mapping) and "use" in given


def to_problems(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """One problem for each thing that is wrong."""
    return [
        Problem(".".join(map(str, problem["loc"])), _lowered(problem["msg"]))
        for problem in unknown_keys_named(error, model)
    ]


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ").replace("Tuple should have", "List should have")
    message = message.replace(" after validation", "")
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _keys_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Names of the keys that are known at `path` below `model`."""
    for part in (part for part in path if isinstance(part, str)):  # numbers are places in a list of one model
        inner = model.model_fields.get(part)
        models = list(_models_in(inner.annotation)) if inner else []
        if not models:
            return []
        model = models[0]
    return [key for key in model.model_fields if key != "use"]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
