"""A small residual network, images that can be learned, and the context that the core would hand a stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from structlog.testing import CapturingLogger
from torch import Tensor, nn
from torch.nn import functional as F

from pqd_core import Arrays, Data, DataInfo, StageContext, Training
from pqd_core.facts import FACTS

INFO = DataInfo("digits", (1, 8, 8), 10, (0.3,), (0.35,))
BRIEF = Training(lr=0.02, batch_size=64, augment=False, weight_decay=1e-3)


def digits() -> Data:
    """320 images to train on and 160 to test on."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 1, 8, 8) * 15.9).astype("uint8")
    train, test = (Arrays(pixels[part], labels[part].astype("int64")) for part in (slice(320), slice(320, 480)))
    return Data(INFO, train, test)


class SmallResidual(nn.Module):
    """A stem, a max pool, a block with a projected shortcut, a pre-activation batch norm, an average pool, a head."""

    def __init__(self, width: int = 8, classes: int = 10, eps: float = 1e-5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, eps), nn.ReLU())
        self.conv1, self.bn1 = nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width, eps)
        self.conv2, self.bn2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width, eps)
        self.shortcut = nn.Conv2d(width, 2 * width, 1)
        self.bn3 = nn.BatchNorm2d(2 * width, eps)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(2 * width, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = F.max_pool2d(self.stem(images), 2)
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)
        x = F.relu(self.bn3(x))
        logits: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


LAYERS = ["conv1", "conv2", "head.1", "shortcut", "stem.0"]


def network(seed: int = 0, **settings: Any) -> SmallResidual:
    """A network in eval mode whose batch norms have seen something: factors of both signs, moved means."""
    torch.manual_seed(seed)
    model = SmallResidual(**settings).eval()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(-0.5, 1.5)
                part.bias.normal_(0, 0.2)
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 1.5)
    return model


def context(
    epochs: int = 1,
    facts: dict[str, dict[str, Tensor]] | None = None,
    teacher: nn.Module | None = None,
    build: Callable[..., nn.Module] | None = None,
    data: Data | None = None,
    initial: nn.Module | None = None,
) -> StageContext:
    """The context of a step of `epochs` on the CPU; what is logged is in `log.calls`."""
    opened = data or digits()
    log: Any = CapturingLogger()
    return StageContext(
        epochs=epochs,
        seed=0,
        device=torch.device("cpu"),
        info=opened.info,
        example=torch.zeros(2, *opened.info.shape),
        log=log,
        progress=lambda images: None,
        open_data=lambda: opened,
        baseline=lambda: teacher or network(),
        build=build or (lambda backbone, checkpoint: network()),
        known_facts=FACTS,
        facts=facts or {},
        initial=lambda: initial or network(seed=7),
    )


def images(count: int = 32) -> Tensor:
    """Test images, normalized."""
    pixels = torch.from_numpy(digits().test.images[:count]).float() / 255
    return (pixels - INFO.mean[0]) / INFO.std[0]


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    """Where the weights of each convolution and linear layer are zero."""
    return {name: p == 0 for name, p in model.named_parameters() if p.dim() > 1}
