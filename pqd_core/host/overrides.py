"""`--set stages.0.sparsity=0.9`: values of a spec, replaced from the shell."""

from __future__ import annotations

from typing import Any

import yaml

from pqd_core.host.errors import Problem, SpecError, did_you_mean


def apply_override(raw: dict[str, Any], override: str) -> None:
    """One `key.path=value` is in its place in `raw`; the value is YAML, or else the text as it stands.

    Raises:
        SpecError: the path leads nowhere.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise _refused(override, "expected key=value", "for example --set stages.0.sparsity=0.9")
    *parents, last = path.split(".")
    target: Any = raw
    for depth, part in enumerate(parents):
        target = _step_into(target, part, ".".join(path.split(".")[: depth + 1]), override)
    target[_index(target, last, override) if isinstance(target, list) else last] = _value(text)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date or an integer that cannot be
        return text


def _step_into(target: Any, part: str, where: str, override: str) -> Any:
    """The mapping or list at `part`, where a bare component name becomes a mapping that can be added to."""
    index: Any = _index(target, part, override) if isinstance(target, list) else part
    inner = {} if isinstance(target, dict) and target.get(part) is None else target[index]
    if isinstance(inner, str):
        inner = {"use": inner}
    if not isinstance(inner, dict | list):
        raise _refused(override, f"{where} is {inner!r}, which has no keys")
    target[index] = inner.copy()  # an anchor of YAML may stand in several places
    return target[index]


def _index(target: list[Any], part: str, override: str) -> int:
    names = [item.get("use") if isinstance(item, dict) else item for item in target]
    if part.isdecimal() and int(part) < len(target):
        return int(part)
    if names.count(part) == 1:
        return names.index(part)
    if part in names:
        *places, last = (str(place) for place, name in enumerate(names) if name == part)
        hint = f"write {', '.join(places)} or {last} for '{part}'"
        raise _refused(override, f"there are {names.count(part)} entries '{part}'", hint)
    known = [*map(str, range(len(target))), *(name for name in names if isinstance(name, str))]
    raise _refused(override, f"there is no entry '{part}'", did_you_mean(part, known))


def _refused(override: str, what: str, hint: str = "") -> SpecError:
    return SpecError(Problem(f"--set {override}", what, hint))
