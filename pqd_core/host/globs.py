"""Layers chosen by globs over their names, as `include` and `exclude` of a stage's settings do."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pqd_core.host.errors import Problem, SpecError


def choose_layers(names: Sequence[str], include: Sequence[str], exclude: Sequence[str], where: str) -> list[str]:
    """Those of `names` that a glob of `include` fits and none of `exclude`, in their order.

    Raises:
        SpecError: a glob fits no layer at all, or nothing is left; the problems are below `where`, the stage's name.
    """
    known = f"the layers are {', '.join(names)}"
    useless = [
        Problem(f"{where}.{field}", f"{glob!r} fits no layer", known)
        for field, globs in (("include", include), ("exclude", exclude))
        for glob in globs
        if not any(fnmatchcase(name, glob) for name in names)
    ]
    chosen = [name for name in names if _fits(name, include) and not _fits(name, exclude)]
    if not chosen and not useless:
        useless = [Problem(where, "include and exclude leave no layer", known)]
    if useless:
        raise SpecError(*useless)
    return chosen


def _fits(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
