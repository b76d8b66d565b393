"""What the core's tests share: a host of toys, specs of toys, a finished run to look at, and processes to disturb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import light
import pytest
import torch
from attrs import define, frozen

from pqd_core import Report, Spec, run
from pqd_core.host.plugins import Host
from pqd_core.host.read_spec import parse_spec
from pqd_core.testing import toy_host, toy_spec

HERE = Path(__file__).parent
LIGHT = {"runtimes": ["light"], "measure": ["toy-accuracy", "light-size"], "baseline": {"epochs": 0}}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test finds or leaves anything in the user's own store, and none inherits a choice of plugins."""
    monkeypatch.setenv("PQD_STORE", str(tmp_path / "default-store"))
    for name in ("PQD_PLUGINS", "PQD_DISABLE_PLUGINS", "PQD_STRICT", "PQD_TRACE"):
        monkeypatch.delenv(name, raising=False)


def light_spec(**changes: Any) -> dict[str, Any]:
    """A spec of toys that runs in a tenth of a second: an untrained baseline, and noise for training."""
    return toy_spec(**{"stages": ["nudge"], **LIGHT, **changes})


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def host() -> Host:
    """A host with the toys and the light parts, and nothing that is installed."""
    return toy_host(light)


@define
class Bench:
    """A host and a store in a folder of the test's own; specs are made of light parts unless they say otherwise."""

    host: Host
    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def spec(self, **changes: Any) -> Spec:
        return parse_spec(light_spec(**changes), self.host)

    def run(self, spec: Spec | None = None, out: str = "out", **options: Any) -> Report:
        return run(spec or self.spec(), self.folder / out, store=self.store, host=self.host, **options)

    def log(self, out: str = "out") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / out / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def bench(host: Host, tmp_path: Path) -> Bench:
    return Bench(host, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Report]:
    """A finished run of two stages; to look at, never to change."""
    bench = Bench(toy_host(light), tmp_path_factory.mktemp("finished"))
    return bench, bench.run(bench.spec(stages=["nudge", {"use": "nudge", "epochs": 2}]))


@frozen
class Process:
    """A `pqd` process."""

    pid: int
    output_file: Path
    _zygote: Zygote

    @property
    def output(self) -> str:
        """What it wrote so far, to either stream."""
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return self._zygote.ask({"wait": self.pid})

    def finished(self) -> str:
        """Everything that it wrote until its end."""
        self.wait()
        return self.output


@define
class Zygote:
    """The process that forks others; see zygote.py."""

    process: subprocess.Popen[str]
    folder: Path
    started: int = 0
    _ready: bool = False

    def ask(self, request: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self._ready:
            assert self.process.stdout.readline().strip() == "ready"
            self._ready = True
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, *argv: str | Path, cwd: Path, **request: Any) -> Process:
        self.started += 1
        output = self.folder / f"output-{self.started}.txt"
        output.touch()
        env = {**TOYS_ONLY, "PYTHONPATH": f"{cwd}:{self.folder}", "PQD_STORE": str(cwd / "store")}
        env |= request.pop("env", {})
        asked = {"argv": list(map(str, argv)), "env": env, "cwd": str(cwd), "output": str(output), **request}
        return Process(self.ask({"start": asked}), output, self)


TOYS_ONLY = {"PQD_PLUGINS": "toys,light", "COLUMNS": "200", "NO_COLOR": "1"}


def write_distribution(folder: Path, name: str, plugins: dict[str, str]) -> None:
    """An installed distribution, as importlib.metadata sees it, that registers `plugins`."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{plugin} = {target}" for plugin, target in plugins.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pqd]", *lines]) + "\n")


@pytest.fixture(scope="session")
def _zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("processes")
    write_distribution(folder, "toy-parts", {"toys": "pqd_core.testing.toys", "light": "light"})
    command = [sys.executable, str(HERE / "zygote.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield Zygote(process, folder)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


@pytest.fixture
def pqd(_zygote: Zygote, tmp_path: Path) -> Callable[..., Process]:
    """Starts `pqd ARGUMENTS...` with the toys as its only plugins, in the test's own folder."""
    return partial(_zygote.start, cwd=tmp_path)
