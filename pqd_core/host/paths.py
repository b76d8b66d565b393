"""Where things lie, and how they are written so that nothing half-written is ever taken for finished.

Only this module and `artifact.py` touch the store.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from pqd_core.host.errors import Problem, StoreError
from pqd_core.host.log import get_logger

HALF_WRITTEN = re.compile(r"\..+[.-][0-9a-f]{32}")
FULL = (errno.ENOSPC, errno.EDQUOT)


def default_store() -> Path:
    """The store of this user: `PQD_STORE`, or `pqd/store` in the user's cache folder."""
    return Path(os.environ.get("PQD_STORE") or user_cache_path("pqd") / "store")


def default_run_folder(title: str) -> Path:
    """Where a run's report and files go if nobody says otherwise."""
    return Path("pqd-runs") / title


def make_folder(folder: Path, what: str) -> Path:
    """`folder` exists and can be written to.

    Raises:
        StoreError: with exit code 2, as it is the caller's folder; before any work is done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        problem = StoreError(Problem(str(folder), f"the {what} cannot be written: {error.strerror}", _advice(error)))
        problem.exit_code = 2
        raise problem from error
    return folder


@contextmanager
def written_aside(folder: Path, scratch: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` in one rename when the block ends without an error.

    A `folder` that is there already stays as it is.

    Raises:
        StoreError: the disk is full or cannot be written; nothing is left behind.
    """
    aside = scratch / f"{folder.name[:16]}.{uuid.uuid4().hex}"
    try:
        aside.mkdir(parents=True)
        yield aside
        for path in (*aside.rglob("*"), aside):
            _sync(path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _rename_unless_there(aside, folder)
        _sync(folder.parent)
    except OSError as error:
        raise store_error(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rename_unless_there(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """No other process holds the lock `file` during the block; while one does, the user is told who is waited for.

    Raises:
        StoreError: the file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            get_logger("pqd.store").warning(f"waiting for another pqd that works on {what}")
            lock.acquire()
    except OSError as error:
        raise store_error(file, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """No other run writes to `folder` during the block, and what a killed one left there half-written is gone."""
    with locked(folder / ".lock", str(folder)):
        for path in (*folder.glob(".*"), *(folder / "deployed").rglob(".*")):
            if HALF_WRITTEN.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        yield


def sweep(folder: Path, pattern: str) -> None:
    """Nothing that matches `pattern` is left in `folder`."""
    for path in folder.glob(pattern):
        discard(path)


def discard(path: Path) -> None:
    """Nothing lies at `path`, folder or file, as far as the disk allows."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def write_text(file: Path, text: str) -> None:
    """`file` holds `text`, whole, even if the power goes."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """`file` holds `content`, whole, even if the power goes.

    Raises:
        StoreError: the disk is full or cannot be written; an older file stays as it was.
    """
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        aside.write_bytes(content)
        _sync(aside)
        aside.replace(file)
    except OSError as error:
        raise store_error(file, error) from error
    finally:
        aside.unlink(missing_ok=True)


def place(source: Path, target: Path) -> None:
    """`target` has the content of the folder `source`, by hard links where the disk allows them."""
    with written_aside_replacing(target) as aside:
        shutil.copytree(source, aside, copy_function=_link_or_copy, dirs_exist_ok=True)


@contextmanager
def written_aside_replacing(folder: Path) -> Iterator[Path]:
    """Like `written_aside`, in place of a folder that may be there already."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir()
        yield aside
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as error:
        raise store_error(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def store_error(where: Path, error: OSError) -> StoreError:
    """The operating system's refusal, with what to do about it."""
    return StoreError(Problem(str(where), f"cannot be written: {error.strerror or error}", _advice(error)))


def _advice(error: OSError) -> str:
    if error.errno in FULL:
        return "make room on this disk, or choose another one with --out or PQD_STORE; what is finished is kept"
    return "choose another place with --out, or another store with PQD_STORE"
