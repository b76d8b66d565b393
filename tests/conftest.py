"""What the core's tests share: a host of toys, specs of toys, a finished run to look at, and processes to disturb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import light
import pytest
import torch
from bench import Bench
from processes import Process, Zygote

from pqd_core import Report
from pqd_core.host.plugins import Host
from pqd_core.testing import toy_host

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test finds or leaves anything in the user's own store, and none inherits a choice of plugins."""
    monkeypatch.setenv("PQD_STORE", str(tmp_path / "default-store"))
    for name in ("PQD_PLUGINS", "PQD_DISABLE_PLUGINS", "PQD_STRICT", "PQD_TRACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def host() -> Host:
    """A host with the toys and the light parts, and nothing that is installed."""
    return toy_host(light)


@pytest.fixture
def bench(host: Host, tmp_path: Path) -> Bench:
    return Bench(host, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Report]:
    """A finished run of two stages; to look at, never to change."""
    bench = Bench(toy_host(light), tmp_path_factory.mktemp("finished"))
    return bench, bench.run(bench.spec(stages=["nudge", {"use": "nudge", "epochs": 2}]))


@pytest.fixture(scope="session")
def _zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote.born(tmp_path_factory.mktemp("processes"))
    yield zygote
    zygote.end()


@pytest.fixture
def pqd(_zygote: Zygote, tmp_path: Path) -> Callable[..., Process]:
    """Starts `pqd ARGUMENTS...` with the toys as its only plugins, in the test's own folder."""
    return partial(_zygote.start, cwd=tmp_path)
