"""Where `pqd bench` writes what it found: tried before anything is timed, written whole."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pqd_core import DataError, Problem


def try_place(file: Path, read: Iterable[Path | None]) -> None:
    """A file can be written at `file`, in a folder that is made if need be, and it is none of those that are `read`.

    Raises:
        DataError: it cannot.
    """
    with _told(file):
        if file.exists() and not file.is_file():
            raise _refused(file, "is a folder" if file.is_dir() else "is no plain file")
        if file.exists() and any(file.samefile(one) for one in read if one and one.exists()):
            raise _refused(file, "is one of the files that are read")
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = _beside(file)
        aside.touch()
        aside.unlink()


def write(file: Path, text: str) -> None:
    """`file` holds `text`, whole.

    Raises:
        DataError: it cannot be written.
    """
    aside = _beside(file)
    with _told(file):
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name[:100]}.{uuid.uuid4().hex}")


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(file, f"cannot be written: {error.strerror}") from error


def _refused(file: Path, what: str) -> DataError:
    return DataError(Problem(f"--out {file}", what, "give another file"))
