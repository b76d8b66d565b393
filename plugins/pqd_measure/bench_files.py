"""The files that `pqd bench` is given: which runtime opens each, and what they take."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import evolve, field, frozen
from pydantic import ValidationError

from pqd_core import DataError, Problem, RuntimeDef, Settings, installed, to_problems


@frozen
class BenchFile:
    """A file, and the runtime that opens it with which settings."""

    argument: str
    """What the person wrote."""
    file: Path
    runtime: RuntimeDef
    settings: Settings
    beside: tuple[Path, ...] = field(default=())
    """Files that belong to it."""
    label: str = ""
    """What tells it from the others."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and of those beside it."""
        return sum(part.stat().st_size for part in (self.file, *self.beside) if part.is_file())


def read_files(arguments: Sequence[str], runtime: str | None) -> list[BenchFile]:
    """Each of `FILE` or `FILE@RUNTIME[,KEY=VALUE...]` with its runtime; `runtime` goes before the files' own.

    Raises:
        DataError: with everything that is wrong with any of them.
    """
    if runtime is not None:
        _find(runtime, "--runtime")
    files, problems = list[BenchFile](), list[Problem]()
    for argument in arguments:
        try:
            files.append(_read(argument, runtime))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(*problems)
    return list(_labelled(files))


def _labelled(files: Sequence[BenchFile]) -> Iterator[BenchFile]:
    """The files under short names; one that is there twice, to see how far equal files differ, has two."""
    common = os.path.commonpath([one.file.absolute().parent for one in files])
    seen = Counter[str]()
    for one in files:
        wish = one.argument.removeprefix(str(one.file))
        label = f"{one.file.absolute().relative_to(common)}{wish}"
        seen[label] += 1
        yield evolve(one, label=label if seen[label] == 1 else f"{label} #{seen[label]}")


def _read(argument: str, preferred: str | None) -> BenchFile:
    name, _, wish = ("", "", "") if Path(argument).is_file() else argument.rpartition("@")
    file = Path(name or argument)
    chosen, _, rest = wish.partition(",")
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "there is no such file"
        raise DataError(Problem(str(file), what, "give a deployed file, such as model.onnx"))
    if name and not chosen:
        raise DataError(Problem(argument, "names no runtime after its @", f"write {file}@RUNTIME, or {file} alone"))
    record = _find(chosen, argument) if name else _runtime_of(file, preferred)
    settings = _settings(record, rest, argument)
    beside = record.opens.get(file.suffix, ())
    return BenchFile(argument, file, record, settings, tuple(file.with_suffix(suffix) for suffix in beside))


def _find(name: str, where: str) -> RuntimeDef:
    try:
        record: RuntimeDef = installed("runtime").find(name).record
    except LookupError as error:
        raise DataError(Problem(where, str(error))) from None
    return record


def _runtime_of(file: Path, preferred: str | None) -> RuntimeDef:
    """The preferred runtime if it opens such files, else the one whose own they are, else the one that opens them."""
    able = [owned for owned in installed("runtime") if file.suffix in owned.record.opens]
    if preferred is not None:
        able = [owned for owned in able if preferred in (owned.record.name, owned.full_name)] or able
    first = [owned for owned in able if next(iter(owned.record.opens)) == file.suffix] or able
    if len(first) == 1:
        record: RuntimeDef = first[0].record
        return record
    if first:
        names = " or ".join(f"{file}@{owned.record.name}" for owned in first)
        raise DataError(Problem(str(file), "several runtimes open such files", f"write {names}"))
    known = ", ".join(sorted({suffix for owned in installed("runtime") for suffix in owned.record.opens}))
    what = f"no installed runtime opens '{file.suffix}' files" if file.suffix else "it has no suffix to know it by"
    raise DataError(Problem(str(file), what, f"known: {known}; or write {file}@RUNTIME"))


def _settings(record: RuntimeDef, text: str, where: str) -> Settings:
    pairs = dict(_pairs(text, where))
    try:
        return record.settings.model_validate(pairs)
    except ValidationError as error:
        raise DataError(*(Problem(where, str(problem)) for problem in to_problems(error, record.settings))) from None


def _pairs(text: str, where: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise DataError(Problem(where, f"'{pair}' is no KEY=VALUE", "write FILE@RUNTIME,KEY=VALUE"))
        yield key.strip(), value.strip()
