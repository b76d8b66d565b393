"""Multiply-adds of one inference, counted by PyTorch on the frozen model that the file was exported from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from pqd_core import Deployed, MeasureContext, Measurement, Settings
from pqd_measure import MACS
from pqd_measure.cells import missing, number

if TYPE_CHECKING:
    from torch import nn

COUNTED = "multiply-adds of convolutions and matrix products on one image; zero weights are counted as work"
BATCH = 2
"""A model that was traced for a free batch size may refuse a batch of one."""


def measure(candidates: Sequence[Deployed], settings: Settings, context: MeasureContext) -> list[list[Measurement]]:
    """For each candidate: its dense multiply-adds for one image."""
    shape = context.data.info.shape
    return [[_cell(count_macs(context.frozen_model(candidate), shape))] for candidate in candidates]


def _cell(macs: int) -> Measurement:
    if not macs:
        return missing(MACS, "the model has no convolution and no matrix product that PyTorch's counter knows")
    return number(MACS, macs, counted=COUNTED, counter=f"torch.utils.flop_counter, torch {torch.__version__}")


def count_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-adds of `model`, in eval mode, for one image of `shape` (C, H, W)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(BATCH, *shape))
    # The counter counts a multiplication and an addition as one operation each.
    return int(counter.get_total_flops()) // (2 * BATCH)
