"""Real `pqd` processes, to be killed, interrupted and starved; see zygote.py for how they start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from attrs import define, frozen

TOYS_ONLY = {"PQD_PLUGINS": "toys,light", "COLUMNS": "200", "NO_COLOR": "1"}


def write_distribution(folder: Path, name: str, plugins: dict[str, str]) -> None:
    """An installed distribution, as importlib.metadata sees it, that registers `plugins`."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{plugin} = {target}" for plugin, target in plugins.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pqd]", *lines]) + "\n")


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

    @classmethod
    def born(cls, folder: Path) -> Self:
        """A zygote whose children find the toys, and no other plugin, installed."""
        write_distribution(folder, "toy-parts", {"toys": "pqd_core.testing.toys", "light": "light"})
        command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True), folder)

    def end(self) -> None:
        """It and its means of talking are gone."""
        self.process.communicate(timeout=30)

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
