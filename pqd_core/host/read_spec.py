"""From a file, a recipe's name and `--set` overrides to a spec; all problems at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pqd_core.host.errors import Problem, SpecError
from pqd_core.host.overrides import apply_override
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.problems import to_problems
from pqd_core.host.registry import UnknownName
from pqd_core.records import RecipeDef
from pqd_core.spec import Spec

SPEC_LIMIT_BYTES = 2**20
SUFFIXES = (".yaml", ".yml", ".toml", ".json")


def read_specs(source: str | Path, overrides: Iterable[str] = (), host: Host | None = None) -> list[Spec]:
    """Every spec that `source` means: one, but for a recipe that has several parts.

    Raises:
        SpecError: with every problem at its place.
    """
    host, overrides = host or default_host(), list(overrides)
    named = [o.record for o in host.registry("recipe") if str(source) in (o.record.name, o.full_name)]
    parts = named[0].parts if len(named) == 1 else ()
    return [read_spec(part, overrides, host) for part in parts or (source,)]


def read_spec(source: str | Path, overrides: Iterable[str] = (), host: Host | None = None) -> Spec:
    """The spec in a file, or the recipe of that name, with `key.path=value` overrides applied.

    Raises:
        SpecError: with every problem at its place.
    """
    host = host or default_host()
    path = Path(source)
    raw = read_mapping(path) if path.suffix in SUFFIXES or _is_file(path) else _recipe(str(source), host)
    for override in overrides:
        apply_override(raw, override)
    return parse_spec(raw, host)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file can have this name
        return False


def parse_spec(raw: Mapping[str, Any], host: Host | None = None) -> Spec:
    """The spec that a mapping means.

    Raises:
        SpecError: with every problem at its place.
    """
    try:
        return Spec.model_validate(raw, context={"host": host or default_host()})
    except ValidationError as error:
        raise SpecError(*to_problems(error, Spec)) from None
    except OSError as error:  # what pydantic asks of a path, and the system does not answer
        raise SpecError(Problem(str(error.filename), f"cannot be read: {error.strerror}")) from None


class _NoDuplicates(yaml.SafeLoader):
    """A safe loader that does not silently take the second of two equal keys."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise yaml.constructor.ConstructorError(None, None, f"the key '{twice[0]}' is there twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML, TOML or JSON file of at most 1 MiB.

    Raises:
        SpecError: it cannot be read, or holds no mapping.
    """
    try:
        if path.stat().st_size > SPEC_LIMIT_BYTES:
            raise SpecError(Problem(str(path), "is too large for a spec (1 MiB)"))
        text = path.read_text(encoding="utf-8")
        raw = _parse(text, path.suffix)
    except OSError as error:
        raise SpecError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: all that the other parsers raise
        raise SpecError(Problem(str(path), " ".join(str(error).split()))) from None
    if not isinstance(raw, dict):
        raise SpecError(
            Problem(str(path), "holds no mapping", "write 'backbone: ...', 'dataset: ...', 'stages: [...]'")
        )
    return raw


def _parse(text: str, suffix: str) -> Any:
    if suffix == ".toml":
        return tomllib.loads(text)
    return json.loads(text, object_pairs_hook=_object) if suffix == ".json" else yaml.load(text, _NoDuplicates)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"the key '{twice[0]}' is there twice")
    return dict(pairs)


def _recipe(name: str, host: Host) -> dict[str, Any]:
    try:
        recipe = host.registry("recipe").find(name).record
    except UnknownName as error:
        hint = (
            ""
            if "did you mean" in str(error)
            else "pqd recipes lists them; a spec's file ends in .yaml, .toml or .json"
        )
        raise SpecError(Problem("", str(error), hint)) from None
    if recipe.parts:
        raise SpecError(Problem("", f"the recipe {name} has several parts", f"name one: {', '.join(recipe.parts)}"))
    return recipe_mapping(recipe)


def recipe_mapping(recipe: RecipeDef) -> dict[str, Any]:
    """The spec of a recipe without parts, the caller's own."""
    raw = json.loads(json.dumps(recipe.spec)) if isinstance(recipe.spec, Mapping) else _packaged(str(recipe.spec))
    return {"name": recipe.name, **raw}


def _packaged(place: str) -> dict[str, Any]:
    package, _, file = place.partition(":")
    with as_file(files(package).joinpath(file)) as path:
        return read_mapping(path)
