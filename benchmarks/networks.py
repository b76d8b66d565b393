"""Networks for benchmarks, in float and in INT8, made as a run makes them but without a run around."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pqd_core import Arrays, Augmentation, Data, DataInfo, StageContext
from pqd_core.facts import FACTS
from pqd_core.host.log import get_logger
from pqd_core.model import Facts

INFO = DataInfo("random", (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3, Augmentation())


def make_network(name: str, width: float = 1.0, seed: int = 0) -> nn.Module:
    """A backbone of pqd_vision with initial weights; its batch norms have statistics that folding has to get right."""
    torch.manual_seed(seed)
    settings: Any = SimpleNamespace(width=width)
    model: nn.Module = import_module(f"pqd_vision.{name.replace('-', '_')}").build(settings, INFO)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model.eval()


def random_images(count: int, seed: int = 0) -> Data:
    """Images of noise: neither speed nor file depends on what is on them."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *INFO.shape), dtype=np.uint8)
    split = Arrays(images, rng.integers(0, INFO.num_classes, count))
    return Data(INFO, split, split)


def make_context(
    data: Data, epochs: int = 0, seed: int = 0, facts: Facts | None = None, baseline: nn.Module | None = None
) -> StageContext:
    """What the core hands a stage, with the evidence for `facts` and the trained `baseline` if it asks for them."""
    return StageContext(
        epochs=epochs,
        seed=seed,
        device=torch.device("cpu"),
        info=data.info,
        example=torch.zeros(2, *data.info.shape),
        log=get_logger("benchmark"),
        progress=lambda _: None,
        open_data=lambda: data,
        baseline=(lambda: baseline) if baseline is not None else _no_network,
        build=_no_network,
        known_facts=FACTS,
        facts=facts or {},
    )


def _no_network(*_: Any) -> nn.Module:
    raise NotImplementedError


def calibrated(model: nn.Module, data: Data, **settings: Any) -> tuple[nn.Module, Callable[[nn.Module], nn.Module]]:
    """`model` with fake quantizers that have seen `data`, and what freezes it."""
    from pqd_int8 import Int8QatSettings, int8_qat

    chosen = Int8QatSettings(**settings)
    context = make_context(data)
    prepared = int8_qat.restructure(model, chosen, context)
    return int8_qat.run(prepared, chosen, context), int8_qat.freeze
