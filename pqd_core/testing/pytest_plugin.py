"""Fixtures for plugin authors, found by pytest through its entry point; nothing heavy is imported until one is used."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.data import Data
    from pqd_core.host.plugins import Host
    from pqd_core.testing import Project


@pytest.fixture
def pqd_host() -> Host:
    """A host with the toys and with every plugin that is installed, yours among them."""
    from pqd_core.host.plugins import load_plugins
    from pqd_core.testing import toy_host

    return load_plugins(toy_host(), entry_points(group="pqd"))


@pytest.fixture
def pqd_project(pqd_host: Host, tmp_path: Path) -> Project:
    """A folder with a store of its own, in which specs of toys and of installed plugins can be run."""
    from pqd_core.testing import Project

    return Project(pqd_host, tmp_path)


@pytest.fixture
def pqd_backbone() -> nn.Module:
    """A small network with a residual block, in eval mode, for images (1, 8, 8) of 3 classes."""
    import torch

    from pqd_core.testing.starts import Residual

    torch.manual_seed(0)
    return Residual(1, 3).eval()


@pytest.fixture
def pqd_data() -> Data:
    """Images (1, 8, 8) of 3 classes that `pqd_backbone` can learn in a second."""
    from pqd_core.testing.toys import BlobSettings, ToyBlobs

    return ToyBlobs.open_data(BlobSettings())


@pytest.fixture
def pqd_untouched() -> Iterator[None]:
    """The test leaves environment, folder, log handlers, random states and torch's settings as they were."""
    from pqd_core.testing.state import watched

    with watched() as changes:
        yield
    if changes:
        pytest.fail(f"the test changed {', '.join(changes)}", pytrace=False)
