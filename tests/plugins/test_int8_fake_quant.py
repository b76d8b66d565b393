"""The fake quantizers agree with torch's own operators, value and gradient, wherever those are defined alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant, grid


def activation(momentum: float = 0.25, symmetric: bool = False) -> ActivationFakeQuant:
    return ActivationFakeQuant(0, 255, torch.uint8, torch.per_tensor_affine, symmetric, momentum)


def weight(limit: int = 127) -> WeightFakeQuant:
    return WeightFakeQuant(-limit, limit, torch.int8, torch.per_channel_symmetric)


@pytest.mark.parametrize("shift", [-5.0, 0.0, 0.3, 5.0])
def test_an_activation_is_rounded_and_its_gradient_clipped_as_torch_does(shift: float) -> None:
    torch.manual_seed(0)
    quantizer = activation()
    quantizer.train()(torch.randn(1000) + shift)
    quantizer.eval()
    ours = (1.5 * torch.randn(5000) + shift).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    scale, zero = quantizer.scale, quantizer.zero_point
    y, expected = quantizer(ours), torch.fake_quantize_per_tensor_affine(theirs, scale, zero, 0, 255)
    upstream = torch.randn(5000)
    y.backward(upstream)
    expected.backward(upstream)
    assert torch.allclose(y, expected, atol=1e-6)
    assert ours.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    clipped = (ours.grad == 0).float().mean()
    assert 0 < clipped < 0.9


def test_the_range_is_the_moving_average_of_extremes_and_includes_zero() -> None:
    quantizer = activation(momentum=0.25).train()
    quantizer(torch.tensor([1.0, 5.0]))
    quantizer(torch.tensor([3.0, 9.0]))
    assert quantizer.extremes.tolist() == [1.5, 6.0]
    assert float(quantizer.scale) == pytest.approx(6.0 / 255)
    assert int(quantizer.zero_point) == 0


@pytest.mark.parametrize(("brightest", "mean"), [(255, 0.5), (254, 0.3), (127, 0.5)])
def test_no_pixel_lies_half_way_between_two_points(brightest: int, mean: float) -> None:
    pixels = (torch.arange(brightest + 1) / 255 - mean) / 0.25
    step, _ = grid(pixels.min(), pixels.max(), symmetric=False)
    assert float(((pixels / step) % 1 - 0.5).abs().min()) > 5e-4


def test_a_rounded_zero_point_leaves_neither_end_outside() -> None:
    low, high = -torch.rand(1000), torch.rand(1000)
    step, zero = grid(low, high, symmetric=False)
    assert int((zero + (low / step).round()).min()) >= 0
    assert int((zero + (high / step).round()).max()) <= 255


def test_an_activation_is_observed_in_train_mode_only() -> None:
    quantizer = activation().train()
    quantizer(torch.tensor([0.0, 1.0]))
    quantizer.eval()
    assert float(quantizer(torch.tensor([7.0]))) == pytest.approx(1.0)
    assert float(quantizer.extremes[1]) == 1.0
    quantizer.train()
    quantizer(torch.tensor([0.0, 5.0]))
    assert float(quantizer.extremes[1]) == 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_activation_that_is_not_finite_is_reported(value: float) -> None:
    with pytest.raises(FloatingPointError, match="no longer finite"):
        activation().train()(torch.tensor([0.0, value]))


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (6, 10), (6, 4, 5)])
@pytest.mark.parametrize("limit", [64, 127])
def test_a_weight_is_rounded_per_channel_and_its_gradient_passes(shape: tuple[int, ...], limit: int) -> None:
    torch.manual_seed(0)
    w = torch.randn(shape, requires_grad=True)
    steps = w.detach().abs().flatten(1).amax(1) / limit
    zeros = torch.zeros(6, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(w.detach(), steps, zeros, 0, -limit, limit)
    y = weight(limit)(w)
    upstream = torch.randn(shape)
    y.backward(upstream)
    assert torch.allclose(y, expected, atol=1e-6)
    assert torch.equal(w.grad, upstream)  # type: ignore[arg-type]


def integers(w: Tensor, limit: int = 64) -> Tensor:
    quantizer = weight(limit)
    return (quantizer(w) / quantizer.steps_of(w).view(-1, 1)).round()


def test_scaling_a_channel_leaves_its_integers_alone() -> None:
    torch.manual_seed(0)
    w = torch.randn(8, 50)
    factors = torch.tensor([1e-6, 0.1, 1.0, 3.0, 7e5, -1.0, -0.3, -40.0]).view(-1, 1)
    assert torch.equal(integers(w * factors), factors.sign() * integers(w))


def test_zeros_stay_zero_and_a_channel_of_zeros_is_no_trouble() -> None:
    w = torch.randn(4, 30)
    w[1], w[:, ::3] = 0, 0
    rounded = weight()(w)
    assert rounded.isfinite().all()
    assert not rounded[1].any()
    assert not rounded[:, ::3].any()


def test_rounding_can_be_switched_off() -> None:
    w, x = torch.randn(4, 30), torch.randn(30)
    for quantizer, tensor in ((weight(), w), (activation().train(), x)):
        quantizer.disable_fake_quant()
        assert torch.equal(quantizer(tensor), tensor)
        quantizer.enable_fake_quant()
        assert not torch.equal(quantizer(tensor), tensor)
