"""Post-training quantization: the network's weights stay, calibration sets the ranges of its activations.

What training under simulated quantization is worth is seen against this. The graph, its grids and what is deployed are
those of `int8-qat`; a later stage may train it.
"""

from __future__ import annotations

from torch import nn

from pqd_core import StageContext
from pqd_int8 import Int8PtqSettings
from pqd_int8.calibrate import calibrate
from pqd_int8.simulate import deployable, simulate


def restructure(model: nn.Module, settings: Int8PtqSettings, context: StageContext) -> nn.Module:
    """The model is a graph with fake quantizers.

    Raises:
        PqdError: the network cannot be traced, a glob fits none of its layers, or no layer is left.
    """
    return simulate(model, settings, context, "int8-ptq")


def run(model: nn.Module, settings: Int8PtqSettings, context: StageContext) -> nn.Module:
    """Ranges are set from training images; no weight changes."""
    calibrate(model, settings, context)
    return model.cpu().eval()


def freeze(model: nn.Module) -> nn.Module:
    """The graph is one of integers."""
    return deployable(model)
