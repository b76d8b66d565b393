"""Ranges of activations from training images, in four ways.

Whatever the way, the mean over batches of the extremes is kept beside the range that was chosen. If the network is
trained on, ranges follow its extremes, and each keeps the share of them that calibration chose.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import HistogramObserver

from pqd_core import Batch, StageContext, eval_batches, take
from pqd_int8 import Int8Settings
from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant, grid
from pqd_int8.streams import part_streams, watch

CALIBRATION_BATCH = 64
BINS = 2048
Ends = tuple[Tensor, Tensor]
SHARES = 64
"""Ranges that the search for the least error tries at each end."""
ENOUGH_ROUNDS = 3
"""The two ends are searched in turns; they hardly depend on one another."""


@torch.no_grad()
def calibrate(model: nn.Module, settings: Int8Settings, context: StageContext) -> None:
    """Every activation has the range that `settings.observer` finds in training images.

    The images pass unrounded, so that no layer's range depends on how the layers before it were rounded.
    """
    assert isinstance(model, GraphModule)
    model.eval().to(context.device)
    rounded = [part for part in model.modules() if isinstance(part, ActivationFakeQuant | WeightFakeQuant)]
    activations = [part for part in rounded if isinstance(part, ActivationFakeQuant)]
    momenta = [part.momentum for part in activations]
    watchers, spreads = [_Watcher(part, settings) for part in activations], watch(model)
    for part in rounded:
        part.disable_fake_quant()
    for seen, batch in enumerate(_images(settings, context)):
        for part in activations:
            part.train().momentum = 1 / (seen + 1)
        model(batch.inputs.to(context.device))
    for part, momentum, watcher in zip(activations, momenta, watchers, strict=True):
        part.momentum = momentum
        watcher.close()
    part_streams(model, spreads)
    for part in rounded:
        part.eval().enable_fake_quant()


def _images(settings: Int8Settings, context: StageContext) -> Iterator[Batch]:
    split = context.data.train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(context.seed))
    images = take(split, order[: settings.calibration_images].numpy())
    return eval_batches(images, context.info, CALIBRATION_BATCH)


class _Watcher:
    """Sees what a fake quantizer is given, and at last chooses its range."""

    def __init__(self, part: ActivationFakeQuant, settings: Int8Settings) -> None:
        self.part, self.settings = part, settings
        self.histogram = HistogramObserver(dtype=torch.uint8, bins=BINS)
        self._hook = part.register_forward_hook(self._see) if settings.observer != "moving-average" else None

    def _see(self, _: nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
        self.histogram(inputs[0].detach().float())

    def close(self) -> None:
        """Stop, and set the range."""
        if self._hook is not None:
            self._hook.remove()
            self.part.choose_range(*chosen_ends(self.histogram, self.settings))


def chosen_ends(seen: HistogramObserver, settings: Int8Settings) -> Ends:
    """The ends of the range that `settings` ask for, of what an observer has seen."""
    if settings.observer == "percentile":
        return percentile_ends(seen.histogram, seen.min_val, seen.max_val, settings.percentile)
    if settings.observer == "mse":
        return least_error_ends(seen.histogram, seen.min_val, seen.max_val, settings.activations == "symmetric")
    return seen.min_val, seen.max_val


def percentile_ends(histogram: Tensor, low: Tensor, high: Tensor, percentile: float) -> Ends:
    """Between them and beyond each of them lie `percentile` and the rest of the values."""
    below = histogram.double().cumsum(0) / histogram.double().sum()
    width = (high - low) / len(histogram)
    first = (below <= 1 - percentile / 100).sum()
    last = (below < percentile / 100).sum()
    return low + first * width, low + (last + 1) * width


def least_error_ends(histogram: Tensor, low: Tensor, high: Tensor, symmetric: bool) -> Ends:
    """The range within [`low`, `high`] that leaves the least squared error of rounding and clipping.

    Each end is searched while the other stands still, over shares of where it was.
    """
    centres = low + (torch.arange(len(histogram), device=low.device) + 0.5) * (high - low) / len(histogram)
    shares = torch.linspace(1 / SHARES, 1, SHARES, device=low.device)
    best_low, best_high = low.clamp(max=0), high.clamp(min=0)
    for _ in range(ENOUGH_ROUNDS):
        lows, highs = low.clamp(max=0) * shares, high.clamp(min=0) * shares
        best_high = highs[_errors(histogram, centres, best_low.expand_as(highs), highs, symmetric).argmin()]
        best_low = lows[_errors(histogram, centres, lows, best_high.expand_as(lows), symmetric).argmin()]
    return best_low, best_high


def _errors(histogram: Tensor, centres: Tensor, lows: Tensor, highs: Tensor, symmetric: bool) -> Tensor:
    """The squared error of each of n ranges, shape (n,)."""
    step, zero = (part.unsqueeze(1) for part in grid(lows, highs, symmetric))
    points = (centres / step).round().clamp(-zero, 255 - zero)
    return ((points * step - centres).square() * histogram).sum(1)
