"""Deployed files and a context to measure them in, without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from linear_runtime import LinearSettings, open_session

from pqd_core import Arrays, Data, DataInfo, Deployed, MeasureContext
from pqd_core.host.parity import Parity

SHAPE = (1, 4, 4)


def some_data(classes: int = 10, test: int = 150, validation: int = 0) -> Data:
    """Random images and labels."""
    rng = np.random.default_rng(7)

    def split(size: int) -> Arrays:
        images = rng.integers(0, 256, (size, *SHAPE), dtype=np.uint8)
        return Arrays(images, rng.integers(0, classes, size))

    info = DataInfo("noise", SHAPE, classes, mean=(0.5,), std=(0.25,))
    return Data(info, split(20), split(test), split(validation) if validation else None)


def some_weights(classes: int = 10) -> np.ndarray:
    """A linear classifier, float32 (pixels, classes)."""
    return np.random.default_rng(3).normal(size=(int(np.prod(SHAPE)), classes)).astype(np.float32)


def deployed(
    folder: Path, name: str, pipeline: tuple[str, ...] = (), weights: np.ndarray | None = None, **behaviour: Any
) -> Deployed:
    """A linear classifier as a deployed file in a folder of its own."""
    (folder / name).mkdir(parents=True)
    file = folder / name / "model.npy"
    np.save(file, some_weights() if weights is None else weights)
    (folder / name / "manifest.json").write_text("{}")
    settings = LinearSettings(**behaviour)
    parity = Parity(images=1, max_abs_difference=0.0, changed_predictions=0.0)
    return Deployed(pipeline, 0, name, "linear", file, folder / name, settings, parity, key=name)


def context_of(data: Data, scratch: Path, **replaced: Any) -> MeasureContext:
    """What a run would hand a measurer."""
    context = MeasureContext(
        data=data,
        threads=1,
        scratch=scratch,
        open_session=lambda one, threads=None, batch=None: open_session(one.file, threads or 1, one.settings, batch),
        weights=lambda one: {"linear": np.load(one.file)},
        trained_weights=lambda one: pytest.fail("no test asked for trained weights"),
        frozen_model=lambda one: pytest.fail("no test asked for a model"),
        worker=lambda one: ("linear_runtime", str(one.file), one.settings),
    )
    return evolve(context, **replaced)


def seen_by(one: Deployed) -> dict[str, Any]:
    """What the runtime saw when it last opened the file."""
    seen: dict[str, Any] = json.loads(one.file.with_suffix(".seen.json").read_text())
    return seen
