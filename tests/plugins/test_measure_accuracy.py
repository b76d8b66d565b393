"""Accuracy counts what the deployed file gets right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from measure_kit import context_of, deployed, some_data, some_weights

from pqd_core import Data, Measurement
from pqd_measure import AccuracySettings
from pqd_measure.accuracy import measure, rank_of, wilson


def accuracies(folder: Path, data: Data, batch: int = 64, **how: Any) -> dict[str, Measurement]:
    candidate = deployed(folder, "one", **how)
    [row] = measure([candidate], AccuracySettings(batch=batch), context_of(data, folder))
    return {number.metric: number for number in row}


def hits_by_hand(data: Data, weights: np.ndarray, top: int) -> int:
    hits = 0
    for image, label in zip(data.test.images, data.test.labels, strict=True):  # type: ignore[union-attr]
        pixels = (image.astype(np.float32) / 255 - 0.5) / 0.25
        logits = pixels.ravel() @ weights
        hits += int(label in sorted(range(len(logits)), key=lambda k: -logits[k])[:top])
    return hits


@pytest.mark.parametrize("batch", [1, 64, 1000])
def test_accuracy_is_the_share_counted_by_hand_whatever_the_batch(tmp_path: Path, batch: int) -> None:
    data = some_data()
    found = accuracies(tmp_path, data, batch)
    assert found["accuracy"].value == hits_by_hand(data, some_weights(), top=1) / 150
    assert found["accuracy_top5"].value == hits_by_hand(data, some_weights(), top=5) / 150
    assert found["accuracy"].n == 150


def test_validation_images_are_counted_on_their_own(tmp_path: Path) -> None:
    data = some_data(validation=40)
    found = accuracies(tmp_path, data)["accuracy_validation"]
    assert data.validation is not None
    assert found.value == hits_by_hand(evolve(data, test=data.validation), some_weights(), top=1) / 40
    assert (found.n, found.provenance["split"]) == (40, "validation")


def test_without_validation_images_that_metric_is_missing_with_its_reason(tmp_path: Path) -> None:
    found = accuracies(tmp_path, some_data())["accuracy_validation"]
    assert found.value is None
    assert found.missing == "no image was set apart for validation"


@pytest.mark.parametrize(("classes", "there"), [(5, False), (6, True)])
def test_the_top_five_of_five_classes_say_nothing(tmp_path: Path, classes: int, there: bool) -> None:
    found = accuracies(tmp_path, some_data(classes), weights=some_weights(classes))["accuracy_top5"]
    assert (found.value is not None) == there
    assert there or found.missing == "only 5 classes"


def test_outputs_that_are_not_finite_make_the_number_missing_and_are_counted(tmp_path: Path) -> None:
    weights = some_weights()
    weights[0, 0] = np.inf
    found = accuracies(tmp_path, some_data(), weights=weights)["accuracy"]
    assert found.value is None
    assert found.missing == "the outputs for 150 of 150 images are not finite"


def test_equal_logits_are_ranked_by_class_number() -> None:
    logits = np.array([[1.0, 2.0, 2.0, 0.0]] * 4)
    assert rank_of(logits, np.array([0, 1, 2, 3])).tolist() == [2, 0, 1, 3]
    rng = np.random.default_rng(0)
    coarse, labels = rng.integers(0, 3, (50, 100)).astype(np.float32), rng.integers(0, 100, 50)
    before = [
        sum((value, -place) > (row[label], -label) for place, value in enumerate(row))
        for row, label in zip(coarse, labels, strict=True)
    ]
    assert rank_of(coarse, labels).tolist() == before


def test_a_map_style_dataset_gives_the_same_numbers_as_arrays(tmp_path: Path) -> None:
    class Images:
        def __init__(self, data: Data) -> None:
            self.split = data.test

        def __len__(self) -> int:
            return len(self.split)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            pixels = torch.from_numpy(self.split.images[index]).float() / 255  # type: ignore[union-attr]
            return (pixels - 0.5) / 0.25, int(self.split.labels[index])  # type: ignore[union-attr]

    data = some_data()
    arrays = accuracies(tmp_path / "arrays", data)["accuracy"]
    mapped = accuracies(tmp_path / "mapped", evolve(data, test=Images(data)))["accuracy"]
    assert mapped.value == arrays.value


def test_the_spread_follows_wilsons_formula_and_is_never_zero() -> None:
    hits, n, z = 90, 100, 1.959964
    share = hits / n
    by_hand = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert wilson(hits, n) == pytest.approx(by_hand, rel=1e-6)
    assert wilson(100, 100) > 0.01


def test_the_session_is_closed_even_if_an_inference_raises(tmp_path: Path) -> None:
    opened = []

    def open_session(one: Any) -> Any:
        from linear_runtime import LinearSession

        opened.append(LinearSession(one.file, one.settings))
        return opened[-1]

    candidate = deployed(tmp_path, "one", fails="raises")
    context = context_of(some_data(), tmp_path, open_session=open_session)
    with pytest.raises(RuntimeError, match="gave up"):
        measure([candidate], AccuracySettings(batch=10), context)
    assert opened[0].closed
