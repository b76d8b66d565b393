"""What a step leaves on disk: a folder named after the hash of its request, with a checksum for every file."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen
from pydantic import Field, ValidationError
from pydantic_core import to_jsonable_python

from pqd_core.host import paths
from pqd_core.host.errors import ArtifactDamaged, Problem
from pqd_core.host.keys import canonical_json, file_digest
from pqd_core.host.log import get_logger
from pqd_core.records import Settings

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
MANIFEST_LIMIT_BYTES = 16 * 2**20
HEX_KEY = r"^[0-9a-f]{64}$"
Shelf = Literal["steps", "deployed", "measured"]


class StoredFile(Settings):
    """A file of a stored folder."""

    sha256: str = Field(pattern=HEX_KEY, description="sha-256 of its bytes.")
    size_bytes: int = Field(ge=0, description="Its length.")


class Manifest(Settings):
    """What lies in a stored folder and what it answers."""

    format: Literal[1] = Field(1, description="Version of this layout.")
    key: str = Field(pattern=HEX_KEY, description="Content key of the request.")
    about: dict[str, Any] = Field(description="The request and what is known of its answer.")
    about_sha256: str = Field(pattern=HEX_KEY, description="sha-256 of `about` as canonical JSON.")
    files: dict[str, StoredFile] = Field(description="Every other file of the folder, by relative path.")


@frozen
class Artifact:
    """A finished step: its folder, checked against its manifest."""

    key: str
    folder: Path
    about: Mapping[str, Any] = field(repr=False)
    """What its manifest says of it: the step's `history` (the training curve), `seconds`, `epochs`, `facts`, ..."""

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one safetensors file, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.folder / name)


@frozen
class Store:
    """Finished work, by content key: `steps` (artifacts), `deployed` (files) and `measured` (numbers)."""

    root: Path

    def find(self, shelf: Shelf, key: str) -> Artifact | None:
        """The stored answer to `key`, or None; a damaged one is set aside with a warning, to be made again."""
        folder = self.folder(shelf, key)
        if not os.path.lexists(folder):
            return None
        try:
            return Artifact(key, folder, read_manifest(folder, key).about)
        except ArtifactDamaged as damage:
            get_logger("pqd.store").warning(f"a stored folder is damaged and will be made again: {damage}")
            self._set_aside(folder)
            return None

    def has(self, shelf: Shelf, key: str) -> bool:
        """Whether an answer lies there, without checking its files."""
        return (self.folder(shelf, key) / MANIFEST).is_file()

    def remembered(self, shelf: Shelf) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Key and description of each answer, to look back: files are not checked, unreadable ones passed over."""
        for file in sorted((self.root / shelf).glob(f"*/*/{MANIFEST}")):
            with suppress(OSError, ValidationError):
                if file.stat().st_size <= MANIFEST_LIMIT_BYTES:
                    manifest = Manifest.model_validate_json(file.read_bytes())
                    yield manifest.key, manifest.about

    def remove(self, shelf: Shelf, key: str) -> None:
        """No answer to `key` lies there any more."""
        self._set_aside(self.folder(shelf, key))

    @contextmanager
    def saved(self, shelf: Shelf, key: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """A folder to write files into; it is in the store, whole, when the block ends without an error.

        If another process was faster, what it left there stays.
        """
        with paths.written_aside(self.folder(shelf, key), self.root / "aside") as folder:
            yield folder
            plain = to_jsonable_python(dict(about), inf_nan_mode="null")
            manifest = Manifest(key=key, about=plain, about_sha256=_digest(plain), files=_describe(folder))
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Only one process at a time makes what `key` names; the others wait here and then find it.

        Raises:
            StoreError: the store cannot be written.
        """
        with paths.locked(self.root / "locks" / f"{key}.lock", "the same step"):
            for pattern in (f"{key[:16]}.*", "damaged.*"):  # left by processes that were killed
                paths.sweep(self.root / "aside", pattern)
            yield

    def folder(self, shelf: Shelf, key: str) -> Path:
        """Where the answer to `key` lies, or would lie."""
        return self.root / shelf / key[:2] / key

    def _set_aside(self, folder: Path) -> None:
        away = self.root / "aside" / f"damaged.{uuid.uuid4().hex}"
        try:
            away.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(away)
        except FileNotFoundError:  # another process was faster
            return
        except OSError as error:
            raise paths.store_error(folder, error) from error
        paths.discard(away)


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """`file` holds the tensors, as safetensors.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), file)
    except SafetensorError as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):  # the system's refusal, told in words only
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from error
        raise


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(about).encode()).hexdigest()


def _describe(folder: Path) -> dict[str, StoredFile]:
    return {
        path.relative_to(folder).as_posix(): StoredFile(sha256=file_digest(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_manifest(folder: Path, key: str) -> Manifest:
    """The manifest of a stored folder, all of whose files are there, unchanged.

    Raises:
        ArtifactDamaged: anything is missing, altered, or of another request.
    """
    file = folder / MANIFEST
    try:
        if file.stat().st_size > MANIFEST_LIMIT_BYTES:
            raise ArtifactDamaged(Problem(str(file), "is too large for a manifest"))
        manifest = Manifest.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactDamaged(Problem(str(file), f"is no readable manifest ({type(error).__name__})")) from error
    if manifest.key != key:
        raise ArtifactDamaged(Problem(str(file), f"answers another request, {manifest.key[:12]}"))
    if manifest.about_sha256 != _digest(manifest.about):
        raise ArtifactDamaged(Problem(str(file), "is not what was saved"))
    for name, stored in manifest.files.items():
        _check_file(folder, name, stored)
    return manifest


def _check_file(folder: Path, name: str, stored: StoredFile) -> None:
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ArtifactDamaged(Problem(str(path), "points outside its folder"))
        same = path.is_file() and path.stat().st_size == stored.size_bytes and file_digest(path) == stored.sha256
    except (OSError, ValueError):  # ValueError: a null byte in the name
        same = False
    if not same:
        raise ArtifactDamaged(Problem(str(path), "is missing or not the file that was saved"))
