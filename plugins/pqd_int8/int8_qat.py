"""Quantization-aware training for INT8 runtimes (Jacob et al. 2018, arXiv:1712.05877), on torchao's PT2E route.

The network is traced, fake quantizers are put where an integer runtime will round, and it is trained on. Parameters
keep their names, so a mask that an earlier or later stage laid on a weight finds it.

In train mode ranges and batch-norm statistics follow the data, in eval mode they stand still. They are settled late in
this stage, so that the last steps train exactly the network that will be deployed. A later stage starts them again by
calling `train()`, as it must: pruning or a teacher's influence moves the activations away from the ranges found here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_core import StageContext, fit
from pqd_int8 import Int8QatSettings
from pqd_int8.calibrate import calibrate
from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_int8.simulate import deployable, simulate

Kinds = tuple[type[nn.Module], ...]


def restructure(model: nn.Module, settings: Int8QatSettings, context: StageContext) -> nn.Module:
    """The model is a graph with fake quantizers.

    Raises:
        PqdError: the network cannot be traced, a glob fits none of its layers, or no layer is left.
    """
    return simulate(model, settings, context, "int8-qat", settings.range_momentum)


def run(model: nn.Module, settings: Int8QatSettings, context: StageContext) -> nn.Module:
    """Ranges are set from training images, then the network is trained; no epochs: post-training quantization."""
    calibrate(model, settings, context)
    on_epoch, on_step = freezing(model, settings)
    return fit(model, context, settings.training, on_epoch=on_epoch, on_step=on_step)


def freeze(model: nn.Module) -> nn.Module:
    """The graph is one of integers."""
    return deployable(model)


def freezing(
    model: nn.Module, settings: Int8QatSettings
) -> tuple[list[Callable[[int], None]], list[Callable[[int, int], None]]]:
    """Callbacks of `fit`, by epoch and by step, that stop ranges and batch-norm statistics when they should stop."""
    epoch = settings.batch_norm_freeze_epoch
    if epoch is None:
        return [], [settle_late(model, settings.freeze_at, (ActivationFakeQuant, _BatchNorm))]

    def settle(began: int) -> None:
        if began == epoch:
            settle_parts(model, (_BatchNorm,))

    return [settle], [settle_late(model, settings.freeze_at, (ActivationFakeQuant,))]


def settle_late(model: nn.Module, share: float, kinds: Kinds) -> Callable[[int, int], None]:
    """A callback of `fit` that stops parts of these kinds once `share` of the steps are done."""

    def settle(done: int, total: int) -> None:
        if done == max(1, math.ceil(share * total)):
            settle_parts(model, kinds)

    return settle


def settle_parts(model: nn.Module, kinds: Kinds) -> None:
    """Ranges or statistics of all parts of these kinds stand still, until `train()` is called again."""
    for part in model.modules():
        if isinstance(part, kinds):
            part.eval()
