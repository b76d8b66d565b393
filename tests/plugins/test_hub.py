"""timm's networks and Hugging Face's image datasets, from disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pqd_core import DataError, DataInfo
from pqd_hub import HfImagesSettings, TimmSettings, content, pqd_backbones, pqd_datasets
from pqd_hub.hf_images import open_data
from pqd_hub.timm_network import build

INFO = DataInfo("d", (1, 32, 32), 7, (0.5,), (0.25,))


def images(count: int, size: int = 8, seed: int = 0) -> dict[str, list[Any]]:
    from PIL import Image

    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return {"image": [Image.fromarray(one) for one in pixels], "label": [i % 3 for i in range(count)]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])})
    parts = {"train": images(30), "test": images(9, seed=1)}
    folder = tmp_path_factory.mktemp("hf")
    both = datasets.DatasetDict({name: datasets.Dataset.from_dict(part, features) for name, part in parts.items()})
    both.save_to_disk(str(folder / "saved"))
    (folder / "parquet").mkdir()
    for name, part in both.items():
        part.to_parquet(folder / "parquet" / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_both_forms_on_disk_give_the_same_images(saved: Path, form: str) -> None:
    data = open_data(HfImagesSettings(path=saved / form))
    expected = np.stack([np.asarray(one).transpose(2, 0, 1) for one in images(30)["image"]])
    assert np.array_equal(data.train.images, expected)  # type: ignore[union-attr]
    assert data.train.labels.tolist() == images(30)["label"]  # type: ignore[union-attr]
    assert len(data.test) == 9
    assert (data.info.shape, data.info.num_classes, data.info.classes) == ((3, 8, 8), 3, ("cat", "dog", "owl"))
    assert data.info.mean == pytest.approx(expected.mean((0, 2, 3)) / 255)


def test_images_are_resized_and_limited(saved: Path) -> None:
    data = open_data(HfImagesSettings(path=saved / "saved", size=4, limit=6, limit_test=3))
    assert data.train.images.shape == (6, 3, 4, 4)  # type: ignore[union-attr]
    assert np.bincount(data.train.labels).tolist() == [2, 2, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"test": "tset"}, "no such split; there are train, test"),
        ({"image": "img"}, "has no column 'img'; there are image, label"),
        ({"limit": 31}, "31 images were asked for, there are 30"),
    ],
)
def test_what_is_not_there_is_told(saved: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as error:
        open_data(HfImagesSettings(path=saved / "saved", **asked))
    assert told in str(error.value)


def test_a_folder_that_is_no_dataset_is_told(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match="cannot be read"):
        open_data(HfImagesSettings(path=tmp_path))
    with pytest.raises(ValidationError, match="there is no file or folder"):
        HfImagesSettings(path=tmp_path / "none")


def test_changed_files_are_another_request(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"1")
    before = content(HfImagesSettings(path=tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"2")
    assert content(HfImagesSettings(path=tmp_path)) != before


def test_a_network_of_timm_is_built_for_the_data() -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    network = build(TimmSettings(name="resnet18", kwargs={"base_width": 64}), INFO)
    assert network(torch.zeros(2, *INFO.shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"name": "resnet81"}, "did you mean"), ({"name": "resnet18", "kwargs": {"no": 1}}, "correct kwargs")],
)
def test_a_network_that_timm_cannot_build_is_told(asked: dict[str, Any], told: str) -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    with pytest.raises(DataError, match=told):
        build(TimmSettings(**asked), INFO)


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("timm", lambda: build(TimmSettings(name="resnet18"), INFO)),
        ("datasets", lambda: open_data(HfImagesSettings(path=Path(__file__)))),
    ],
)
def test_a_missing_package_is_told_with_how_to_get_it(package: str, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"pip install 'pqd\["):
        use()


def test_the_records_are_there_without_the_packages() -> None:
    assert [record.name for record in (*pqd_backbones(), *pqd_datasets())] == ["timm", "hf-images"]
