"""A plugin of small real parts that take milliseconds, so that the core's tests spend their time in the core.

The stage `nudge` moves each weight by seeded noise, in as many small steps as it has epochs; the runtime `light` keeps
a network as safetensors. Everything else comes from `pqd_core.testing.toys`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pqd_core import (
    Deployed,
    FactDef,
    MeasureContext,
    Measurement,
    MeasurerDef,
    MetricDef,
    RuntimeDef,
    Session,
    Settings,
    StageContext,
    StageDef,
    hookimpl,
)
from pqd_core.testing.toys import CLASSES, ToyNet

SIZE = MetricDef("size_bytes", "bytes", "lower")


class NudgeSettings(Settings):
    """How far and how slowly."""

    by: float = Field(0.3, ge=0, le=1, description="Standard deviation of the noise.")
    pause_s: float = Field(0.0, ge=0, description="Time to sleep in each epoch.")


class Nudge:
    """A stage whose result depends on its seed, its epochs and its parent, as training's does."""

    @staticmethod
    def restructure(model: nn.Module, settings: NudgeSettings, context: StageContext) -> nn.Module:
        """Nothing to change."""
        return model

    @staticmethod
    def run(model: nn.Module, settings: NudgeSettings, context: StageContext) -> nn.Module:
        """Noise, epoch by epoch."""
        if told := os.environ.get("LIGHT_LEAVES"):
            _leave(Path(told))
        for epoch in range(context.epochs):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn(parameter.shape) * settings.by)
            context.hold_facts(model)
            context.history.append({"epoch": epoch + 1.0})
            context.progress(len(context.data.train))
            time.sleep(settings.pause_s)
        return model

    @staticmethod
    def freeze(model: nn.Module) -> nn.Module:
        """Nothing to turn."""
        return model


def _leave(told: Path) -> None:
    """A forked process that would go on for minutes; its id is in the file `told`."""
    pid = os.fork()
    if not pid:
        time.sleep(300)
        os._exit(0)
    told.write_text(str(pid))


class Bulky(Nudge):
    """A stage whose evidence takes a megabyte."""

    @staticmethod
    def run(model: nn.Module, settings: NudgeSettings, context: StageContext) -> nn.Module:
        """The network as it was, and its burden."""
        context.give("burdened", {"burden": torch.zeros(2**18)})
        return model


class _LightSession:
    def __init__(self, file: Path) -> None:
        self.net = ToyNet(1, CLASSES).eval()
        self.net.load_state_dict(load_file(file))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.net(torch.from_numpy(images)).numpy()
        return logits

    def close(self) -> None:
        pass


class Light:
    """A runtime that can do toy networks only."""

    @staticmethod
    def export(model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: Settings) -> Path:
        """The network's tensors."""
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "net.safetensors")
        return folder / "net.safetensors"

    @staticmethod
    def open_session(file: Path, threads: int, settings: Settings, batch: int | None = None) -> Session:
        """The network with its tensors."""
        return _LightSession(file)

    @staticmethod
    def weights(file: Path) -> dict[str, np.ndarray]:
        """Tensors of two or more dimensions."""
        return {name: value.numpy() for name, value in load_file(file).items() if value.dim() > 1}


class LightSize:
    """Bytes of the file."""

    @staticmethod
    def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
        """One number per candidate."""
        return [[Measurement("size_bytes", d.file.stat().st_size, "bytes", "lower")] for d in candidates]


BURDENED = FactDef("burdened", "a megabyte was left as evidence", lambda model, evidence: [])


def stage_record(name: str, load: Callable[..., Any] | object = Nudge, **fields: Any) -> StageDef:
    """A stage that does what `nudge` does, under another name and with other declarations."""
    given = {"name": name, "kind": "toy", "summary": "Adds noise.", "load": load, "settings": NudgeSettings}
    return StageDef(**{**given, **fields})


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """Bring `nudge` and `bulky`."""
    return [stage_record("nudge"), stage_record("bulky", Bulky, gives=(BURDENED,))]


@hookimpl
def pqd_runtimes() -> Iterable[RuntimeDef]:
    """Bring `light`."""
    return [RuntimeDef(name="light", summary="Runs toy networks.", load=Light)]


@hookimpl
def pqd_measurers() -> Iterable[MeasurerDef]:
    """Bring `light-size`."""
    return [MeasurerDef(name="light-size", summary="Bytes.", load=LightSize, metrics=(SIZE,))]
