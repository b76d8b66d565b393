"""Whether a network from elsewhere can be trained and deployed here: it turns images into plain logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pqd_core import DataError, DataInfo, Problem


def check_network(network: nn.Module, info: DataInfo, where: str, hint: str) -> None:
    """The network gives logits (N, classes), in eval and in training mode; its weights and buffers are as before.

    Raises:
        DataError: it raised, chained, or gave something else; the problem is at `where` and carries `hint`.
    """
    images = torch.zeros(2, *info.shape)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        _check_logits(_forward(network.eval(), images, where, hint), info, where, "")
        # Training mode moves the running means of batch norms.
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        _check_logits(_forward(network.train(), images, where, hint), info, where, " in training")
        for name, buffer in network.named_buffers():
            if name in before:
                buffer.copy_(before[name])


def _forward(network: nn.Module, images: Tensor, where: str, hint: str) -> object:
    try:
        return network(images)
    except Exception as error:
        what = f"the network cannot take images of {tuple(images.shape[1:])}: {type(error).__name__}: {error}"
        raise DataError(Problem(where, what, hint)) from error


def _check_logits(logits: object, info: DataInfo, where: str, when: str) -> None:
    expected = (2, info.num_classes)
    if not isinstance(logits, Tensor):
        what, hint = f"a {type(logits).__name__}", "return the logits alone, without auxiliary outputs"
    elif logits.shape != expected:
        what, hint = f"shape {tuple(logits.shape)}", f"the data has {info.num_classes} classes"
    elif not logits.is_floating_point():
        what, hint = f"{logits.dtype}", "return the logits, not the predicted classes"
    else:
        return
    raise DataError(Problem(where, f"the network gave {what} for two images{when}, expected logits {expected}", hint))
