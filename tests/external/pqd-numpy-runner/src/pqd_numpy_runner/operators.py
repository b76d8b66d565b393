"""The operators, each on float32 arrays; their arguments are those of torch's ATen operators of the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Array:
    """A convolution as one matrix product for each group."""
    windows = _windows(x, weight.shape[2:], stride, padding, dilation)
    n, _, height, width = windows.shape[:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, groups, -1)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    found = np.einsum("pgk,gok->pgo", columns, kernels, optimize=True)
    out = found.reshape(n, height, width, -1).transpose(0, 3, 1, 2)
    return out if bias is None else out + bias[:, None, None]


def _windows(
    x: Array, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Array:
    """(N, C, rows, columns, kernel height, kernel width)."""
    x = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in padding)))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    windows = sliding_window_view(x, reach, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Array:
    """Batch norm with the statistics that training left."""
    scale = weight / np.sqrt(variance + np.float32(eps))
    return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def max_pool2d(
    x: Array, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0), *_: Any
) -> Array:
    """The largest value of each window; padding never wins."""
    edges = ((0, 0), (0, 0), *((pad, pad) for pad in padding))
    padded = np.pad(x, edges, constant_values=-np.inf)
    return _windows(padded, kernel, stride or kernel, (0, 0), (1, 1)).max((4, 5))


def adaptive_avg_pool2d(x: Array, size: Sequence[int]) -> Array:
    """The mean of each of `size` equal parts."""
    (rows, columns), (height, width) = size, x.shape[2:]
    if height % rows or width % columns:
        raise ValueError(f"{height}x{width} cannot be divided into {rows}x{columns}")
    return x.reshape(*x.shape[:2], rows, height // rows, columns, width // columns).mean((3, 5))


def flatten(x: Array, start: int = 0, end: int = -1) -> Array:
    """All dimensions from `start` to the last as one."""
    return x.reshape(*x.shape[:start], -1)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """A matrix product."""
    return x @ weight.T if bias is None else x @ weight.T + bias


def mean(x: Array, axes: Sequence[int], keepdim: bool = False) -> Array:
    """The mean over some dimensions."""
    found: Array = x.mean(tuple(axes), keepdims=keepdim)
    return found


OPERATORS: dict[str, Callable[..., Array]] = {
    "conv2d.default": conv2d,
    "batch_norm.default": batch_norm,
    "relu.default": lambda x: np.maximum(x, 0),
    "relu_.default": lambda x: np.maximum(x, 0),
    "add.Tensor": np.add,
    "add_.Tensor": np.add,
    "mul.Tensor": np.multiply,
    "max_pool2d.default": max_pool2d,
    "adaptive_avg_pool2d.default": adaptive_avg_pool2d,
    "mean.dim": mean,
    "flatten.using_ints": flatten,
    "linear.default": linear,
    "dropout.default": lambda x, *_: x,
    "dropout_.default": lambda x, *_: x,
}
