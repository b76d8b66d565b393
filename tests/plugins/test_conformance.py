"""Everything that is bundled keeps the contract, as the kit checks it of anybody's plugin."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from small_data import write_cifar, write_fashion, write_folders, write_npz, write_parquet

from pqd_core.host.plugins import BRINGS, default_host
from pqd_core.testing import Case, parametrize_with_checks

NETWORK = """
from torch import nn


def build(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def own_network(folder: Path) -> dict[str, str]:
    (folder / "net.py").write_text(NETWORK)
    return {"target": f"{folder / 'net.py'}:build"}


def fashion(folder: Path) -> dict[str, str]:
    write_fashion(folder)
    return {"root": str(folder)}


def folders(folder: Path) -> dict[str, object]:
    write_folders(folder)
    return {"root": str(folder)}


def parquet(folder: Path) -> dict[str, object]:
    write_parquet(folder)
    return {"path": str(folder)}


@cache
def cifar() -> Path:
    """A folder with small CIFAR files, which torchvision is told to expect while a test of this module runs."""
    folder = Path(tempfile.mkdtemp(prefix="pqd-cifar-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _small_cifar() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for classes in (10, 100):
            write_cifar(cifar(), patch, classes)
        yield


SETTINGS = {
    "wrn-28-10": {"settings": {"width": 0.1}},
    "resnet18-cifar": {"settings": {"width": 0.25}},
    "vgg16-bn": {"settings": {"width": 0.25}},
    "channel": {"settings": {"multiple": 1, "min_width": 1}},
    "torchvision": {"settings": {"name": "squeezenet1_1"}, "shape": (3, 64, 64)},
    "timm": {"settings": {"name": "lcnet_035"}, "shape": (3, 64, 64)},
    "hf-images": {"settings": parquet},
    "python": {"settings": own_network},
    "cifar10": {"settings": lambda folder: {"root": str(cifar())}},
    "cifar100": {"settings": lambda folder: {"root": str(cifar())}},
    "fashion-mnist": {"settings": fashion},
    "image-folder": {"settings": folders},
    "latency": {"settings": {"seconds": 0.05, "rounds": 5, "warmup_s": 0.1, "processes": 2, "retakes": 0}},
    "npz": {"settings": lambda folder: {"path": str(write_npz(folder / "made.npz"))}},
}
EXTRAS = {"timm": "timm", "hf-images": "datasets", "nncf-int8": "nncf"}
"""Components that need a package which pqd brings only as an extra."""


def settings_of(name: str) -> dict[str, object]:
    """What a case of this name needs; the paper's recipes are planned on small data of CIFAR's form."""
    of_paper = {"settings": lambda folder: {"dataset.root": str(cifar())}}
    return SETTINGS.get(name, of_paper if name.startswith("paper/") else {})


def bundled() -> Iterator[Case]:
    """Every record that is installed with pqd; one that needs an extra only where that is installed."""
    for noun, _ in BRINGS.values():
        for record in (owned.record for owned in default_host().registry(noun)):
            if find_spec(EXTRAS.get(record.name, "pqd_core")):
                yield Case(record, **settings_of(record.name))


@parametrize_with_checks(bundled())
def test_what_is_bundled_keeps_the_contract(check):
    check()
