"""A network of timm, built for the data."""

from __future__ import annotations

from difflib import get_close_matches

from torch import nn

from pqd_core import DataError, DataInfo, Problem
from pqd_hub import TimmSettings

WHERE = "backbone.timm"


def build(settings: TimmSettings, info: DataInfo) -> nn.Module:
    """The network for the data's classes and channels.

    Raises:
        DataError: timm is not installed, knows no such network, or cannot build it.
    """
    try:
        import timm
    except ImportError as error:
        raise DataError(Problem(WHERE, "timm is not installed", "python3 -m pip install 'pqd[timm]'")) from error
    if not timm.is_model(settings.name):
        near = get_close_matches(settings.name, timm.list_models(), n=3, cutoff=0.6)
        hint = "did you mean " + " or ".join(near) + "?" if near else "timm.list_models() names them all"
        raise DataError(Problem(f"{WHERE}.name", f"timm has no network '{settings.name}'", hint))
    known = {"num_classes": info.num_classes, "in_chans": info.shape[0]}
    try:
        network: nn.Module = timm.create_model(settings.name, settings.pretrained, **{**known, **settings.kwargs})
    except Exception as error:
        what = f"{settings.name} cannot be built: {type(error).__name__}: {error}"
        hint = "correct kwargs; without a network, set pretrained: false and give baseline.checkpoint"
        raise DataError(Problem(f"{WHERE}.kwargs", what, hint)) from error
    return network
