"""What is asked of datasets: to be what they say, each time they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from pqd_core.batches import eval_batches
from pqd_core.data import Arrays, Data, Split, check_data, labels_of, unaugmented
from pqd_core.records import DatasetDef
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.state import watched
from pqd_core.testing.workshop import refusals, workshop

LOOKED_AT = 8


def _open(case: Case) -> Data:
    opened: Data = case.component.implementation().open_data(workshop(case).settings)
    return opened


def _opened(case: Case) -> Data:
    """The dataset, opened once for all checks that only look."""
    shared = workshop(case).shared
    if Data not in shared:
        shared[Data] = _open(case)
    found: Data = shared[Data]
    return found


def _parts(data: Data) -> dict[str, Split]:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {name: split for name, split in parts.items() if split is not None}


@check(DatasetDef)
def data_is_what_it_says(case: Case) -> None:
    """Every split holds images and targets that fit the description; where those are classes, each occurs."""
    data = _opened(case)
    labels = labels_of(data.train)
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        check_data(data)
        absent = set(range(data.info.num_classes)) - set(labels.tolist())
        require(not absent, f"no training image of the classes {sorted(absent)}")
    info, channels = data.info, data.info.shape[0]
    require(len(info.mean) == len(info.std) == channels, f"mean and std need {channels} numbers, one for each channel")
    require(min(info.std) > 0, "a standard deviation is not positive")
    require(len(info.classes) in (0, info.num_classes), f"names {len(info.classes)} of {info.num_classes} classes")


@check(DatasetDef)
def images_are_normalized(case: Case) -> None:
    """Networks see finite float32 images of the described shape, roughly centred."""
    data = _opened(case)
    for name, split in _parts(data).items():
        images = torch.cat([batch.inputs for batch in eval_batches(split, data.info, LOOKED_AT, LOOKED_AT)])
        require(images.dtype == torch.float32, f"{name} gives {images.dtype}, not float32")
        require(images.shape[1:] == data.info.shape, f"{name} gives {tuple(images.shape[1:])}")
        require(bool(images.isfinite().all()) and float(images.abs().max()) < 50, f"{name} is not normalized")


@check(DatasetDef)
def same_settings_same_data(case: Case) -> None:
    """Opening twice gives the same images and labels, whatever the random states of the process are."""
    first, second = _parts(_opened(case)), _parts(_open(case))
    require(first.keys() == second.keys(), "two openings gave different splits")
    for name, split in first.items():
        require(len(split) == len(second[name]), f"two openings gave different numbers of {name} images")
        require(np.array_equal(labels_of(split), labels_of(second[name])), f"two openings gave different {name} labels")
        require(_same_images(split, second[name]), f"two openings gave different {name} images")


def _same_images(one: Split, other: Split) -> bool:
    if isinstance(one, Arrays) and isinstance(other, Arrays):
        return np.array_equal(one.images, other.images)
    a, b = unaugmented(one), unaugmented(other)
    return all(torch.equal(_image(a, i), _image(b, i)) for i in range(min(LOOKED_AT, len(a))))


def _image(split: Any, index: int) -> torch.Tensor:
    image: torch.Tensor = split[index][0]
    return image


@check(DatasetDef)
def opening_leaves_the_process_alone(case: Case) -> None:
    """Environment, folder, log handlers, all random states and torch's settings come back as they were."""
    _opened(case)
    with watched() as changes:
        _open(case)
    require(not changes, f"opening changed {', '.join(changes)}")


def _paths(case: Case) -> list[str]:
    settings = workshop(case).settings
    return [name for name in type(settings).model_fields if isinstance(getattr(settings, name), Path)]


@check(DatasetDef, asked=lambda case: "path" in str(case.component.settings.model_fields).lower())
def refuses_missing_files_with_a_reason(case: Case) -> None:
    """A path that leads nowhere is refused, by the settings or by a `PqdError` that says what is missing."""
    shop = workshop(case)
    for name in _paths(case):
        nowhere = str(shop.folder / "nowhere" / "at-all")
        try:
            settings = case.component.settings.model_validate(
                {**shop.values, name: nowhere}, context={"host": shop.host}
            )
        except ValidationError:
            continue
        with refusals(f"{name}: {nowhere}") as reasons:
            case.component.implementation().open_data(settings)
        require(reasons, f"opened {nowhere}, which is not there")
