"""The two fake quantizers: what INT8 will do to a weight and to an activation, differentiable.

Activations are observed in train mode only. A network in eval mode, or a part of it that was settled late in training,
keeps its ranges: nothing is learned from images that are only measured on.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torchao.quantization.pt2e import FakeQuantizeBase, FusedMovingAvgObsFakeQuantize

SMALLEST_STEP = torch.finfo(torch.float32).tiny
"""Keeps an all-zero channel from dividing by zero."""


class WeightFakeQuant(FakeQuantizeBase):  # type: ignore[misc]
    """A weight rounded to a symmetric grid with one step per output channel: max|w| of the channel is the last point.

    The steps follow the weight exactly, so there is no state to save, and nothing is ever clipped: the gradient passes
    unchanged. Scaling a channel scales its step, so rounding gives the same integers before and after a batch norm is
    folded into the weight (Krishnamoorthi 2018, arXiv:1806.08342), and no folding has to be simulated.
    """

    def __init__(self, quant_min: int, quant_max: int, dtype: torch.dtype, qscheme: torch.qscheme, **_: Any) -> None:
        super().__init__()
        self.quant_min, self.quant_max, self.dtype, self.qscheme = quant_min, quant_max, dtype, qscheme
        self.ch_axis = 0
        self.rounds = True
        self.steps = torch.ones(1)
        """What `calculate_qparams` answers; set before conversion."""

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Round, or pass the weight on as it is."""
        super().enable_fake_quant(enabled)
        self.rounds = enabled  # reading the buffer would make a CUDA device wait

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` (out, ...) on its grid, float32."""
        if not self.rounds:
            return weight
        steps = self.steps_of(weight).view(-1, *[1] * (weight.dim() - 1))
        rounded: Tensor = _RoundPerChannel.apply(weight.float(), steps)
        return rounded

    def steps_of(self, weight: Tensor) -> Tensor:
        """The step of each output channel, shape (out,)."""
        largest = weight.detach().float().abs().flatten(1).amax(1)
        return (largest / self.quant_max).clamp_(min=SMALLEST_STEP)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Step and zero point of each output channel."""
        return self.steps, torch.zeros_like(self.steps, dtype=torch.int64)


class _RoundPerChannel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, steps: Tensor) -> Tensor:
        return torch.div(weight, steps).round_().mul_(steps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class ActivationFakeQuant(FusedMovingAvgObsFakeQuantize):  # type: ignore[misc]
    """An activation rounded to uint8 over the moving average of its batches' minimum and maximum.

    torchao's fused operator rounds one element at a time on a CPU; here it is four vectorized passes, several times
    faster. Rounding before the zero point is added is also what the deployed operators do.
    """

    def train(self, mode: bool = True) -> Self:
        """Observe in train mode only."""
        super().train(mode)
        self.enable_observer(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape on its grid, float32."""
        x = x.float()
        if x.is_cuda:
            return super().forward(x)  # type: ignore[no-any-return]
        if self.observer_enabled:
            self.observe(x.detach())
        if not self.fake_quant_enabled:
            return x
        step, zero = self.scale.item(), self.zero_point.item()
        lowest, highest = self.quant_min - zero, self.quant_max - zero
        rounded: Tensor = _RoundPerTensor.apply(x, step, lowest, highest)
        return rounded

    def observe(self, x: Tensor) -> None:
        """Move the range towards that of `x`.

        Raises:
            FloatingPointError: `x` is not finite.
        """
        observer = self.activation_post_process
        for end, new in zip((observer.min_val, observer.max_val), torch.aminmax(x), strict=True):
            end.copy_(torch.lerp(end, new, observer.averaging_constant) if end.isfinite() else new)
        if not (observer.max_val - observer.min_val).isfinite():
            raise FloatingPointError("an activation is no longer finite; lower the learning rate")
        for kept, found in zip((self.scale, self.zero_point), self.calculate_qparams(), strict=True):
            kept.copy_(found)


class _RoundPerTensor(torch.autograd.Function):
    """The straight-through estimator: the gradient passes where the value was not clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, lowest: int, highest: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = (lowest - 0.5) * step, (highest + 0.5) * step
        return torch.mul(x, 1 / step).round_().clamp_(lowest, highest).mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.bounds), None, None, None
