"""Networks of timm, and image datasets in Hugging Face's formats on disk; extras `pqd[timm]` and `pqd[hf]`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pqd_core import BackboneDef, DatasetDef, Settings, hookimpl


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}")
    return path


class TimmSettings(Settings):
    """Which of timm's networks."""

    name: str = Field(description="As timm names it: resnet18, mobilenetv3_small_100, ...")
    pretrained: bool = Field(False, description="Begin with timm's published weights, which it downloads.")
    kwargs: dict[str, Any] = Field({}, description="More arguments of timm.create_model; the data's are added.")


class HfImagesSettings(Settings):
    """Where the images lie, and how they are brought to one size."""

    path: Annotated[Path, AfterValidator(_existing)] = Field(
        description="A folder of datasets.save_to_disk, or one with train*.parquet and test*.parquet."
    )
    train: str = Field("train", description="The split to train on.")
    test: str = Field("test", description="The split to test on.")
    image: str = Field("image", description="The column of images.")
    label: str = Field("label", description="The column of class numbers.")
    size: int | None = Field(None, ge=1, le=4096, description="Resize all images to size x size pixels.")
    limit: int | None = Field(None, ge=1, description="Training images to take, each class by its share; all if unset.")
    limit_test: int | None = Field(None, ge=1, description="Test images to take; all if not given.")
    padding: int = Field(4, ge=0, le=64, description="Pixels of padding for the random crop in training; 0 for none.")
    flip: bool = Field(True, description="Whether training may mirror images left to right.")


def timm_version(_: TimmSettings) -> str:
    """timm's version: an architecture may change between two."""
    try:
        return version("timm")
    except PackageNotFoundError:
        return "none"


def files_of(path: Path) -> list[Path]:
    """The files that hold the data, in order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def content(settings: HfImagesSettings) -> str:
    """A digest of all files below the path."""
    digest = hashlib.sha256()
    for file in files_of(settings.path):
        digest.update(f"{file.relative_to(settings.path.parent)}:{file.stat().st_size}:".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


@hookimpl
def pqd_backbones() -> Iterable[BackboneDef]:
    """timm's networks."""
    yield BackboneDef(
        name="timm",
        summary="Any of timm's networks, for the classes and channels of the data; needs pqd[timm].",
        settings=TimmSettings,
        load="pqd_hub.timm_network",
        fingerprint=timm_version,
    )


@hookimpl
def pqd_datasets() -> Iterable[DatasetDef]:
    """Image datasets on disk."""
    yield DatasetDef(
        name="hf-images",
        summary="Images saved by Hugging Face's datasets, or in parquet files; needs pqd[hf].",
        settings=HfImagesSettings,
        load="pqd_hub.hf_images",
        fingerprint=content,
    )
