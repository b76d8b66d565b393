"""torchvision's classification models, fitted to the classes and channels of the data.

They use their activations as torchvision wrote them, some modules more than once.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import torch
from torch import nn
from torchvision import models

from pqd_core import DataError, DataInfo, Problem
from pqd_vision.network_check import check_network
from pqd_vision.settings import TorchvisionModel

WHERE = "backbone.torchvision"
SIZE_HINT = (
    "set the dataset's size, or give the builder its own: kwargs: {image_size: 32} (vit) or {input_size: [32, 32]}"
)


def build(settings: TorchvisionModel, info: DataInfo) -> nn.Module:
    """The model, giving plain logits also in training.

    Raises:
        DataError: an unknown model or weights, weights that cannot be fetched, or images that it cannot take.
    """
    if settings.name not in (known := models.list_models(module=models)):
        raise DataError(
            Problem(f"{WHERE}.name", f"torchvision has no model {settings.name}", _near(settings.name, known))
        )
    weights = None if settings.weights is None else find_weights(settings.name, settings.weights)
    classes = info.num_classes if weights is None else len(weights.meta["categories"])
    network = _built(settings, weights, classes)
    if classes != info.num_classes:
        replace_head(network, info.num_classes)
    fit_channels(network, info.shape[0], settings.name)
    check_network(network, info, WHERE, SIZE_HINT)
    return network


def find_weights(name: str, wanted: str) -> Any:
    """The published weights of that name, fetched and known to hold nothing but tensors.

    Raises:
        DataError: there are none of that name, or they cannot be fetched.
    """
    known = models.get_model_weights(name)
    short = wanted.rpartition(".")[2]
    if short not in known.__members__:
        what = f"{name} has no weights {wanted}"
        raise DataError(Problem(f"{WHERE}.weights", what, "known: " + ", ".join(known.__members__)))
    weights = known[short]
    try:
        # torchvision's builders unpickle without `weights_only`; after this they find a file in the cache that is safe.
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except Exception as error:
        what = f"{weights.url} cannot be fetched or read: {error}"
        hint = f"check the network, or put the file into {torch.hub.get_dir()}/checkpoints"
        raise DataError(Problem(f"{WHERE}.weights", what, hint)) from error
    return weights


def _built(settings: TorchvisionModel, weights: Any, classes: int) -> nn.Module:
    builder = models.get_model_builder(settings.name)
    arguments: dict[str, Any] = {
        "num_classes": classes,
        **_without_auxiliary(settings.name, weights),
        **settings.kwargs,
    }
    try:
        network: nn.Module = builder(weights=weights, **arguments)
    except Exception as error:
        what = f"{settings.name} cannot be built: {type(error).__name__}: {error}"
        raise DataError(Problem(f"{WHERE}.kwargs", what, "correct kwargs")) from error
    _drop_auxiliary(network)
    return network


def _without_auxiliary(name: str, weights: Any) -> dict[str, Any]:
    """GoogLeNet and Inception v3 have auxiliary heads; their published weights load only with them."""
    if name not in ("googlenet", "inception_v3") or weights is not None:
        return {}
    return {"aux_logits": False, "init_weights": True}


def _drop_auxiliary(network: nn.Module) -> None:
    if getattr(network, "aux_logits", False):
        network.aux_logits = False  # type: ignore[assignment]
        for head in ("aux1", "aux2", "AuxLogits"):
            if hasattr(network, head):
                setattr(network, head, None)


def replace_head(network: nn.Module, classes: int) -> None:
    """The last layer, linear or (SqueezeNet) a convolution, gives `classes` outputs, with fresh weights."""
    *_, head = (part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d))
    head.weight = nn.Parameter(torch.empty(classes, *head.weight.shape[1:]))
    if head.bias is not None:
        head.bias = nn.Parameter(torch.empty(classes))
    if isinstance(head, nn.Linear):
        head.out_features = classes
    else:
        head.out_channels = classes
    head.reset_parameters()


def fit_channels(network: nn.Module, channels: int, name: str) -> None:
    """For grey images, the first convolution does at once what it would do to the image repeated three times.

    Raises:
        DataError: images of neither one nor three channels, or a model that takes its input apart by channel.
    """
    if channels == 3:
        return
    if channels != 1 or getattr(network, "transform_input", False):
        hint = "use images of three channels" + (", or no weights" if channels == 1 else "")
        raise DataError(Problem(f"{WHERE}.name", f"{name} cannot take images of {channels} channels", hint))
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    first.in_channels = 1
    first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))


def _near(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=3, cutoff=0.5)
    return "did you mean " + " or ".join(near) + "?" if near else "known: " + ", ".join(known)
