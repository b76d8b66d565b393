"""The two fake quantizers: what INT8 will do to a weight and to an activation, differentiable.

Activations are observed in train mode only. A network in eval mode, or a part of it that was settled late in training,
keeps its ranges: nothing is learned from images that are only measured on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import FakeQuantizeBase

SMALLEST_STEP = torch.finfo(torch.float32).tiny
"""Keeps an all-zero channel from dividing by zero."""
SMALLEST_ACTIVATION_STEP = torch.finfo(torch.float32).eps
"""Keeps the products of two steps, in which runtimes count, from vanishing."""


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


class ActivationFakeQuant(FakeQuantizeBase):  # type: ignore[misc]
    """An activation rounded to uint8 over the moving average of its batches' minimum and maximum.

    `kept` is the share of these extremes that calibration found best. torch's own operator rounds one element at a time
    on a CPU; here it is four vectorized passes, several times faster. Rounding before the zero point is added is also
    what the deployed operators do.
    """

    extremes: Tensor
    """Moving averages of the batches' minimum and maximum, shape (2,); infinite before the first batch."""
    kept: Tensor
    group: Tensor
    """Those of a stream that have the same number here have one step, shape (1,)."""
    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        quant_min: int,
        quant_max: int,
        dtype: torch.dtype,
        qscheme: torch.qscheme,
        symmetric: bool = False,
        momentum: float = 0.01,
        **_: Any,
    ) -> None:
        super().__init__()
        self.quant_min, self.quant_max, self.dtype, self.qscheme = quant_min, quant_max, dtype, qscheme
        self.symmetric, self.momentum = symmetric, momentum
        self.rounds = True
        self.stream: list[ActivationFakeQuant] = [self]
        """This and those that may share its step; in a list they are not registered as this module's own.

        All of them have the same list: `copy.deepcopy` then meets it once, however long it is.
        """
        self.register_buffer("extremes", torch.full((2,), torch.inf))
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("group", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Round, or pass the activation on as it is."""
        super().enable_fake_quant(enabled)
        self.rounds = enabled

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape on its grid, float32; in train mode the grid follows it."""
        x = x.float()
        if self.training:
            self.observe(x.detach())
        if not self.rounds:
            return x
        if x.is_cuda:  # one kernel there, and no number that the CPU would have to wait for
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.quant_min, self.quant_max)
        step, zero = self.scale.item(), self.zero_point.item()
        lowest, highest = self.quant_min - zero, self.quant_max - zero
        rounded: Tensor = _RoundPerTensor.apply(x, step, lowest, highest)
        return rounded

    def observe(self, x: Tensor) -> None:
        """Move the range towards that of `x`.

        Raises:
            FloatingPointError: `x` is not finite.
        """
        newest = torch.stack(torch.aminmax(x))
        moved = torch.lerp(self.extremes, newest, self.momentum)
        self.extremes.copy_(torch.where(self.extremes.isfinite(), moved, newest))
        if not x.is_cuda and not self.extremes.isfinite().all():
            raise FloatingPointError("an activation is no longer finite; lower the learning rate")
        self.set_grids()

    def choose_range(self, low: Tensor, high: Tensor) -> None:
        """The range is [`low`, `high`] now, and this share of the extremes from here on."""
        shares = torch.stack([low, high]) / self.extremes
        self.kept.copy_(torch.where(self.extremes == 0, 1, shares.clamp(min=0)))
        self.set_grids()

    def needed_step(self) -> Tensor:
        """The step that this range needs by itself, shape ()."""
        low, high = self._range()
        return grid(low, high, self.symmetric)[0]

    def _range(self) -> Tensor:
        found = self.extremes * self.kept
        return torch.where(found.isfinite(), found, 0)

    def set_grids(self) -> None:
        """The grids of the whole stream follow: the widest range of each group sets its step."""
        low, high = torch.stack([part._range() for part in self.stream]).unbind(1)
        groups = torch.cat([part.group for part in self.stream])
        needed = grid(low, high, self.symmetric)[0]
        steps = torch.where(groups.unsqueeze(1) == groups, needed, 0).amax(1)
        zeros = zero_points(low, high, steps, self.symmetric)
        for part, step, zero in zip(self.stream, steps, zeros, strict=True):
            part.scale.copy_(step)
            part.zero_point.copy_(zero)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Step and zero point, shape (1,) each."""
        return self.scale, self.zero_point


def grid(low: Tensor, high: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Step and zero point of 256 points that reach from `low` to `high`, with 0 among them.

    A symmetric grid has 0 as its point 128. Values that are never negative do not waste half of it: theirs begins at 0.
    Values of both signs get half a step to spare, so that rounding the zero point leaves neither end outside. Without
    it all pixels of images from -1 to 1 would lie half-way between two points, for last bits to decide.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        step = torch.where(low < 0, torch.maximum(low / -128, high / 127), high / 255)
    else:
        step = (high - low) / _steps_between(low, high)
    step = step.clamp(min=SMALLEST_ACTIVATION_STEP)
    return step, zero_points(low, high, step, symmetric)


def zero_points(low: Tensor, high: Tensor, step: Tensor, symmetric: bool) -> Tensor:
    """The zero point of each range for a step that may be wider than it needs.

    It is the middle one, 128, for a range of both signs that fits there: OpenVINO makes signed integers of such values,
    whose zero is 0, and has no zero point to subtract. A range that begins or ends at zero keeps that end.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    fits = (low >= -128.5 * step) & (high <= 127.5 * step)
    nearest = torch.where(high == 0, 255, (-low / step).round())
    middle = torch.where((low < 0) & (high > 0) & fits, 128, nearest)
    chosen = torch.full_like(middle, 128) if symmetric else middle
    return torch.where(low < 0, chosen, 0).clamp(0, 255)


def _steps_between(low: Tensor, high: Tensor) -> Tensor:
    return torch.where((low < 0) & (high > 0), 254.5, 255.0)


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
