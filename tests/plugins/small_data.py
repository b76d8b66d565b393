"""Files in the layouts of published datasets, with a few random images."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

RNG = np.random.default_rng(0)


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, classes: int = 10) -> dict[str, np.ndarray]:
    """CIFAR's layout with two images of each class a file, which torchvision is told to expect; the images by file."""
    loader = {10: torchvision.datasets.CIFAR10, 100: torchvision.datasets.CIFAR100}[classes]
    labels, names = ("labels", "label_names") if classes == 10 else ("fine_labels", "fine_label_names")
    lies, images, count = folder / loader.base_folder, dict[str, np.ndarray](), 2 * classes
    lies.mkdir(parents=True, exist_ok=True)

    def published(name: str, content: dict[str, object]) -> str:
        (lies / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((lies / name).read_bytes()).hexdigest()

    def batch(name: str) -> list[str]:
        images[name] = RNG.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        content = {"data": images[name].reshape(count, -1), labels: [i % classes for i in range(count)]}
        return [name, published(name, content)]

    monkeypatch.setattr(loader, "train_list", [batch("data_batch_1"), batch("data_batch_2")])
    monkeypatch.setattr(loader, "test_list", [batch("test_batch")])
    meta = published("batches.meta", {names: [f"class {i}" for i in range(classes)]})
    monkeypatch.setattr(loader, "meta", {"filename": "batches.meta", "key": names, "md5": meta})
    return images


def write_fashion(folder: Path) -> dict[str, np.ndarray]:
    """Fashion-MNIST's files with 30 and 10 images."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = {}
    for part, count in (("train", 30), ("t10k", 10)):
        images[part] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        head = b"".join(n.to_bytes(4, "big") for n in (0x803, count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images[part].tobytes())
        head = b"".join(n.to_bytes(4, "big") for n in (0x801, count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + bytes(i % 10 for i in range(count)))
    return images


def write_folders(folder: Path, classes: tuple[str, ...] = ("ant", "bee", "cat")) -> None:
    """Four training and two test images of 20x12 pixels in a folder for each class."""
    for part, count in (("train", 4), ("test", 2)):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")


def write_npz(file: Path, **changes: Any) -> Path:
    """Forty images of 6x5 pixels in four classes, of which eight are the test."""
    images, labels = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8), np.arange(40) % 4
    np.savez(file, **{"x_train": images, "y_train": labels, "x_test": images[:8], "y_test": labels[:8], **changes})
    return file


def write_parquet(folder: Path) -> None:
    """Thirty training and nine test images of 8x8 pixels in three classes, as the datasets library writes them."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])})
    for part, count in (("train", 30), ("test", 9)):
        images = [Image.fromarray(one) for one in RNG.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)]
        table = {"image": images, "label": [i % 3 for i in range(count)]}
        datasets.Dataset.from_dict(table, features).to_parquet(folder / f"{part}.parquet")
