"""The two calls of `nncf.quantize`: one tells where quantizers go, the other what their ranges are."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pqd_core import PqdError, Problem, StageContext, choose_layers, eval_batches, take
from pqd_nncf import HERE, NncfInt8Settings
from pqd_nncf.placement import Placement, placement_of

BATCH = 64
HOOKS = "__nncf_hooks"
"""The child that NNCF adds to a network."""


class Chain(nn.Module):
    """What an `nn.Sequential` is, under the same names, but that another child may lie beside those of the chain."""

    def __init__(self, sequence: nn.Sequential) -> None:
        super().__init__()
        for name, child in sequence.named_children():
            self.add_module(name, child)
        self.links = [name for name, _ in sequence.named_children()]

    def forward(self, x: Tensor) -> Tensor:
        """Each link reads what the one before it gave."""
        for name in self.links:
            x = self.get_submodule(name)(x)
        return x


def chained(model: nn.Module) -> nn.Module:
    """`model`, or the same network in a form to which NNCF can add its quantizers: it adds them as a child."""
    return Chain(model) if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward else model


def place(model: nn.Module, settings: NncfInt8Settings, context: StageContext, nncf: Any) -> Placement:
    """Where quantizers go in this network; that depends on its operators and shapes, not on images.

    Raises:
        PqdError: a glob fits no layer, or NNCF cannot trace the network or finds nothing to quantize.
    """
    excluded = excluded_layers(model, settings)
    try:
        placed = _quantized(model, [context.example], excluded, settings, nncf)
    except Exception as error:  # whatever the network's own code raises under tracing, or NNCF of it
        what = f"NNCF cannot quantize {type(model).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise PqdError(Problem(HERE, what, "exclude the layer that it names, or quantize with int8-qat")) from error
    found = placement_of(nncf.torch.get_config(placed))
    if not found.compression_state:
        raise PqdError(
            Problem(HERE, f"NNCF finds nothing to quantize in {type(model).__name__}", "leave the stage out")
        )
    return found


def calibrated(model: nn.Module, settings: NncfInt8Settings, context: StageContext, nncf: Any) -> nn.Module:
    """A copy of the network whose quantizers have the ranges that training images ask for."""
    split = context.data.train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(context.seed))
    chosen = take(split, order[: settings.calibration_images].numpy())
    images = [batch.inputs for batch in eval_batches(chosen, context.info, BATCH)]
    plain = without_quantizers(model)
    return _quantized(plain, images, excluded_layers(plain, settings), settings, nncf)


def excluded_layers(model: nn.Module, settings: NncfInt8Settings) -> list[str]:
    """Names of the convolutions and linear layers that stay float.

    Raises:
        PqdError: a glob fits no layer, or no layer is left.
    """
    layers = [name for name, part in model.named_modules() if isinstance(part, _ConvNd | nn.Linear)]
    if not layers:
        what = f"{type(model).__name__} has no convolution and no linear layer"
        raise PqdError(Problem(HERE, what, "leave the stage out"))
    chosen = set(choose_layers(layers, settings.include, settings.exclude, HERE))
    return [name for name in layers if name not in chosen]


def without_quantizers(model: nn.Module) -> nn.Module:
    """A copy of the network as it was before NNCF."""
    plain = copy.deepcopy(model)
    plain._modules.pop(HOOKS)
    vars(plain).pop("_replicate_for_data_parallel")
    vars(plain)["forward"] = vars(plain)["forward"].orig_forward
    return plain


def _quantized(
    model: nn.Module, images: Sequence[Tensor], excluded: Sequence[str], settings: NncfInt8Settings, nncf: Any
) -> nn.Module:
    """A copy of `model` with quantizers, calibrated on batches of images."""
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE if settings.weight_range == "reduced" else nncf.OverflowFix.DISABLE,
        batchwise_statistics=True,
        disable_bias_correction=True,  # on 64 images it moved a batch norm's offset by 0.3, and training moves it too
    )
    made: nn.Module = nncf.quantize(
        model,
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset(settings.preset),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(patterns=[_operators_of(name) for name in excluded]),
        advanced_parameters=advanced,
    )
    return made


def _operators_of(layer: str) -> str:
    """A pattern of what NNCF calls the operators of a layer: `layer1/0/conv1/conv2d/0`."""
    return f"{re.escape(layer.replace('.', '/'))}/.*"
