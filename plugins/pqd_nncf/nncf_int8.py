"""Quantization-aware training by NNCF: trained ranges (Jain et al. 2020, arXiv:1903.08066), after its calibration.

NNCF leaves the network's modules and the names of its parameters as they are and lets quantizers act between
operators, so a mask finds its weight before and after. Where they act is NNCF's own configuration. It is left as
evidence: an artifact is rebuilt from it, whatever a later version of NNCF would place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_core import FakeQuantizer, StageContext, fit
from pqd_nncf import NncfInt8Settings
from pqd_nncf.integers import integer_graph, round_biases
from pqd_nncf.library import quiet_nncf
from pqd_nncf.placement import read_placement
from pqd_nncf.quantize import calibrated, chained, place

PLACEMENT = "nncf"
EXAMPLE = "nncf_example"
"""Attribute of the network with a batch to trace it by; no tensor of its state."""


def restructure(model: nn.Module, settings: NncfInt8Settings, context: StageContext) -> nn.Module:
    """Quantizers act in the network's forward pass, with ranges that mean nothing yet; in eval mode.

    Raises:
        PqdError: NNCF or its compiler is missing, a glob fits no layer, or NNCF finds nothing to quantize.
    """
    model = chained(model).eval()
    with quiet_nncf(context) as nncf:
        stored = context.facts.get("fake-quant", {}).get(PLACEMENT)
        placement = place(model, settings, context, nncf) if stored is None else read_placement(stored)
        wrapped: nn.Module = nncf.torch.load_from_config(model, placement.for_nncf())
    for part in wrapped.modules():
        if isinstance(part, FakeQuantizer) and hasattr(part, "input_low"):
            part.register_forward_pre_hook(begin_on_grid)
    vars(wrapped)[EXAMPLE] = context.example
    context.give("fake-quant", {PLACEMENT: placement.as_tensor()})
    return wrapped


def run(model: nn.Module, settings: NncfInt8Settings, context: StageContext) -> nn.Module:
    """Ranges are set from training images, then trained with the weights; no epochs: post-training quantization."""
    with quiet_nncf(context) as nncf:
        model.load_state_dict(calibrated(model, settings, context, nncf).state_dict())
    model = fit(model, context, settings.training, on_step=[settle_statistics(model, settings.freeze_at)])
    round_biases(model, vars(model)[EXAMPLE])
    return model


def freeze(model: nn.Module) -> nn.Module:
    """The network is a graph of integers."""
    return integer_graph(model, vars(model)[EXAMPLE])


@torch.no_grad()
def begin_on_grid(quantizer: Any, _: object) -> None:
    """A range that begins less than half a step below zero begins at zero.

    NNCF rounds such a value's distance from the beginning, a runtime its distance from zero: for a trained range behind
    a ReLU every tenth value came out a step apart.
    """
    low, reach = quantizer.input_low, quantizer.input_range.abs()
    low.masked_fill_((low < 0) & (-low * (quantizer.levels - 1) < reach / 2), 0)


def settle_statistics(model: nn.Module, share: float) -> Callable[[int, int], None]:
    """A callback of `fit` that stops batch-norm statistics once `share` of the steps are done."""

    def settle(done: int, total: int) -> None:
        if done == max(1, math.ceil(share * total)):
            for part in model.modules():
                if isinstance(part, _BatchNorm):
                    part.eval()

    return settle
