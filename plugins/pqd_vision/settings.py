"""What may be set on the networks and datasets; imports no torch.

In a content key, where data lies stands for nothing: the fingerprint says what lies there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, JsonValue, PlainSerializer, SerializationInfo

from pqd_core import Settings

TARGET = r"^[^:]+:[A-Za-z_][\w.]*$"
TARGETS = "module:callable or path/to/file.py:callable"


def _absent_from_key(value: Any, info: SerializationInfo) -> Any:
    if (info.context or {}).get("for") == "key":
        return None
    return str(value) if isinstance(value, Path) else value


def _name_in_key(target: str, info: SerializationInfo) -> str:
    """`/home/ada/net.py:build` is `net.py:build` in a key, on any machine."""
    return target.rpartition("/")[2] if (info.context or {}).get("for") == "key" else target


def _names_a_callable(target: str) -> str:
    if not re.fullmatch(TARGET, target):
        raise ValueError(f"'{target}' names no callable; write {TARGETS}")
    return target


def _expand_home(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str | Path) else value


OutsideKey = PlainSerializer(_absent_from_key)
Folder = Annotated[Path, BeforeValidator(_expand_home), OutsideKey]
ExistingFile = Annotated[FilePath, BeforeValidator(_expand_home), OutsideKey]
Target = Annotated[str, AfterValidator(_names_a_callable), PlainSerializer(_name_in_key, return_type=str)]
Positive = Annotated[float, Field(gt=0)]


class Width(Settings):
    """How wide the network is."""

    width: float = Field(
        1.0,
        gt=0,
        le=64,
        description="Multiplies all channel counts, rounded to multiples of 8; 1 is the paper's network.",
    )


class TorchvisionModel(Settings):
    """Which of torchvision's classification models, and from which weights."""

    name: str = Field(min_length=1, description="torchvision's name, such as mobilenet_v3_small.")
    weights: str | None = Field(
        None, min_length=1, description="Published weights, such as IMAGENET1K_V1 or DEFAULT; fresh ones if not given."
    )
    kwargs: dict[str, JsonValue] = Field({}, description="Further arguments of the builder, such as image_size: 32.")


class PythonNetwork(Settings):
    """Where the callable is that makes the network."""

    target: Target = Field(description=f"{TARGETS}.", json_schema_extra={"pattern": TARGET})
    kwargs: dict[str, JsonValue] = Field(
        {}, description="Arguments of the callable; num_classes and in_channels are added if it names them."
    )


class Limits(Settings):
    """How much of a dataset is used."""

    limit: int | None = Field(None, ge=1, description="Training images to use, a stratified subset; all if not given.")
    limit_test: int | None = Field(None, ge=1, description="Test images to use, a stratified subset; all if not given.")


class Published(Limits):
    """Where a published dataset lies, in torchvision's layout."""

    root: Folder = Field(Path("data"), description="Folder that holds the dataset's own folder.")
    download: Annotated[bool, OutsideKey] = Field(False, description="Fetch the dataset if it is not there.")


class Digits(Limits):
    """How large the digits are shown to the network."""

    size: int = Field(16, ge=8, le=256, description="Height and width in pixels; the originals have 8.")


class ImageFolder(Limits):
    """Where the images lie and what size they are brought to."""

    root: Folder = Field(description="Folder with train/CLASS/... and test/CLASS/... or val/CLASS/...")
    size: int | None = Field(
        None, ge=8, le=4096, description="Height and width in pixels; if not given, all images must have one size."
    )
    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="Per channel, of pixels in [0, 1]; ImageNet's if not given."
    )
    std: tuple[Positive, Positive, Positive] = Field(
        (0.229, 0.224, 0.225), description="Per channel, of pixels in [0, 1]; ImageNet's if not given."
    )


class NpzFile(Limits):
    """Which file, and how its images may be augmented and normalized."""

    path: ExistingFile = Field(description="The .npz file.")
    targets: Literal["classes", "vectors"] = Field(
        "classes", description="What y_train and y_test hold: class numbers (N,), or numbers (N, outputs) for a `task`."
    )
    num_classes: int | None = Field(None, ge=2, description="Number of classes; the largest label + 1 if not given.")
    mean: tuple[float, ...] | None = Field(
        None, description="Per channel, of pixels in [0, 1]; the training images' if not given."
    )
    std: tuple[Positive, ...] | None = Field(
        None, description="Per channel, of pixels in [0, 1]; the training images' if not given."
    )
    padding: int = Field(4, ge=0, le=64, description="Pixels of padding for the random crop in training; 0 for none.")
    flip: bool = Field(True, description="Whether training may mirror images left to right.")
