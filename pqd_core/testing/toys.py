"""A complete toy plugin: a tiny network, separable images, a stage, a runtime and a measurer, all real and fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pqd_core.batches import eval_batches
from pqd_core.data import Arrays, Augmentation, Data, DataInfo
from pqd_core.fit import fit
from pqd_core.hookspecs import hookimpl
from pqd_core.host.errors import DeployError, Problem
from pqd_core.measure import MeasureContext, Measurement
from pqd_core.records import BackboneDef, DatasetDef, MeasurerDef, MetricDef, RuntimeDef, Settings, StageDef
from pqd_core.spec import Training
from pqd_core.stage import StageContext

if TYPE_CHECKING:
    from pqd_core.deploy import Deployed, Session

CLASSES = 3


class BlobSettings(Settings):
    """Size and difficulty of the toy images."""

    images: int = Field(240, ge=CLASSES * 4, description="Training images; a quarter as many to test.")
    noise: float = Field(0.2, ge=0, description="Standard deviation of the noise, of a signal of 1.")


class ToyBlobs:
    """Images (1, 8, 8) with a bright third: left, middle or right."""

    @staticmethod
    def open_data(settings: BlobSettings) -> Data:
        """The images, the same each time."""
        rng = np.random.default_rng(0)
        info = DataInfo("toy-blobs", (1, 8, 8), CLASSES, (0.5,), (0.25,), Augmentation(padding=0, flip=False))
        train, test = (ToyBlobs._split(rng, n, settings.noise) for n in (settings.images, settings.images // 4))
        return Data(info, train, test)

    @staticmethod
    def _split(rng: np.random.Generator, images: int, noise: float) -> Arrays:
        labels = np.arange(images, dtype=np.int64) % CLASSES
        pixels = rng.normal(0, noise, (images, 1, 8, 8))
        for i, label in enumerate(labels):
            pixels[i, 0, :, label * 3 : label * 3 + 2] += 1
        return Arrays((np.clip(pixels, 0, 1) * 255).astype(np.uint8), labels)


class ToyNet(nn.Module):
    """A convolution, a batch norm, a pool and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(8 * 16, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        features = self.pool(self.relu(self.norm(self.conv(images))))
        logits: Tensor = self.head(torch.flatten(features, 1))
        return logits


class ToyBackbone:
    """Builds a `ToyNet`."""

    @staticmethod
    def build(settings: Settings, info: DataInfo) -> nn.Module:
        """A network for the data."""
        return ToyNet(info.shape[0], info.num_classes)


class TuneSettings(Settings):
    """How long and how fast."""

    training: Training = Field(Training(lr=0.02, batch_size=32, augment=False), description="Training.")


class ToyTune:
    """A stage that trains on and changes nothing else."""

    @staticmethod
    def restructure(model: nn.Module, settings: TuneSettings, context: StageContext) -> nn.Module:
        """Nothing to change."""
        return model

    @staticmethod
    def run(model: nn.Module, settings: TuneSettings, context: StageContext) -> nn.Module:
        """Train."""
        return fit(model, context, settings.training)

    @staticmethod
    def freeze(model: nn.Module) -> nn.Module:
        """Nothing to turn."""
        return model


class _ToySession:
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self.forward = forward

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.forward(torch.from_numpy(images)).numpy()

    def close(self) -> None:
        pass


class ToyRuntime:
    """Runs an exported torch program."""

    @staticmethod
    def export(model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: Any) -> Path:
        """A `.pt2` file."""
        batch = torch.export.Dim("batch", min=1)
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=({0: batch},)), folder / "toy.pt2")
        return folder / "toy.pt2"

    @staticmethod
    def open_session(file: Path, threads: int, settings: Any, batch: int | None = None) -> Session:
        """The program, loaded."""
        if not is_zipfile(file):
            raise DeployError(Problem(str(file), "is no exported program", "deploy it again"))
        return _ToySession(torch.export.load(file).module())

    @staticmethod
    def weights(file: Path) -> dict[str, np.ndarray]:
        """Weights with two or more dimensions, by layer."""
        state = torch.export.load(file).state_dict
        return {
            name.removesuffix(".weight"): value.detach().numpy() for name, value in state.items() if value.dim() > 1
        }


class ToyMeasurer:
    """Accuracy, as a share."""

    @staticmethod
    def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
        """One number per candidate."""
        return [[ToyMeasurer._accuracy(candidate, context)] for candidate in candidates]

    @staticmethod
    def _accuracy(candidate: Deployed, context: MeasureContext) -> Measurement:
        session, hits = context.open_session(candidate), 0
        for batch in eval_batches(context.data.test, context.data.info, 32):
            hits += int((session(batch.inputs.numpy()).argmax(1) == batch.targets.numpy()).sum())
        session.close()
        total = len(context.data.test)
        return Measurement("accuracy", hits / total, "1", "higher", (0.25 / total) ** 0.5, total)


@hookimpl
def pqd_backbones() -> Iterable[BackboneDef]:
    """Bring `toy-net`."""
    return [BackboneDef(name="toy-net", summary="A network of two layers.", load=f"{__name__}:ToyBackbone")]


@hookimpl
def pqd_datasets() -> Iterable[DatasetDef]:
    """Bring `toy-blobs`."""
    return [DatasetDef(name="toy-blobs", summary="Bright thirds.", load=f"{__name__}:ToyBlobs", settings=BlobSettings)]


@hookimpl
def pqd_stages() -> Iterable[StageDef]:
    """Bring `toy-tune`."""
    return [
        StageDef(
            name="toy-tune",
            kind="tune",
            summary="Trains on.",
            load=f"{__name__}:ToyTune",
            settings=TuneSettings,
        )
    ]


@hookimpl
def pqd_runtimes() -> Iterable[RuntimeDef]:
    """Bring `toy-torch`."""
    return [
        RuntimeDef(
            name="toy-torch",
            summary="Runs an exported program.",
            load=f"{__name__}:ToyRuntime",
            requires=("torch",),
        )
    ]


@hookimpl
def pqd_measurers() -> Iterable[MeasurerDef]:
    """Bring `toy-accuracy`."""
    metrics = (MetricDef("accuracy", "1", "higher"),)
    return [
        MeasurerDef(name="toy-accuracy", summary="Top-1 accuracy.", load=f"{__name__}:ToyMeasurer", metrics=metrics)
    ]
