"""Files read within a limit, and written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pqd_core import DataError, Problem
from pqd_pack.damage import RAISE_LIMIT


def read(file: Path, largest: int) -> bytes:
    """The bytes of `file`.

    Raises:
        DataError: there is no such file, or it is longer than `largest` bytes.
    """
    if not file.is_file():
        raise refuse(file, "it is a folder; name a file in it" if file.is_dir() else "there is no such file")
    try:
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            data = source.read(min(size, largest) + 1)  # memory for as much is taken at once
    except OSError as error:
        raise refuse(file, f"cannot be read: {error.strerror}") from error
    if len(data) > largest:
        raise refuse(file, f"it is longer than the limit of {largest / 2**20:,.0f} MB", RAISE_LIMIT)
    if len(data) != size:
        raise refuse(file, "it changed while it was read", "try again when nothing writes to it")
    return data


def write(folder: Path, files: Mapping[str, bytes], force: bool) -> None:
    """`folder` holds `files`, by name, each whole.

    Raises:
        DataError: one is there already and `force` is not set (none is written then), or the disk refuses.
    """
    refuse_existing([folder / name for name in files], force)
    asides = {name: folder / f".{name[:100]}.{uuid.uuid4().hex}" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, aside in asides.items():
            _write_synced(aside, files[name])
        for name, aside in asides.items():
            aside.replace(folder / name)
    except OSError as error:
        raise refuse(folder, f"cannot be written: {error.strerror}", "choose another place with -o") from error
    finally:
        for aside in asides.values():
            with suppress(OSError):
                aside.unlink()


def refuse_existing(files: list[Path], force: bool) -> None:
    """None of `files` is there, or they may be replaced.

    Raises:
        DataError: with all that are in the way.
    """
    there = [file for file in files if os.path.lexists(file)]
    if folders := [file for file in there if file.is_dir()]:
        raise refuse(folders[0], "it is a folder", "choose another place with -o")
    if there and not force:
        hint = "replace it with --force, or choose another place with -o"
        raise DataError(*(Problem(str(file), "it is there already", hint) for file in there))


def refuse_source(files: Iterable[Path], sources: Iterable[Path]) -> None:
    """None of `files` is one of `sources`, which nobody means to replace by what is made of them.

    Raises:
        DataError: one is.
    """
    read_from = [source.stat() for source in sources]
    for file in (file for file in files if file.exists()):
        if any(os.path.samestat(file.stat(), source) for source in read_from):
            raise refuse(file, "it would replace what it is made of", "choose another place with -o")


def _write_synced(file: Path, data: bytes) -> None:
    with file.open("xb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())


def refuse(where: Path, what: str, hint: str = "") -> DataError:
    """The error for a file that cannot be what it has to be."""
    return DataError(Problem(str(where), what, hint))
