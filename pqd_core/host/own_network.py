"""A person's own network, at hand in this process, as a backbone."""

from __future__ import annotations

import copy
import hashlib
import inspect

from attrs import frozen
from torch import nn

from pqd_core.data import DataInfo
from pqd_core.host.entries import Entry
from pqd_core.host.errors import DataError, Problem
from pqd_core.host.local import LOCAL
from pqd_core.host.own_data import digest_of
from pqd_core.records import BackboneDef, Settings


@frozen(eq=False)
class _OwnNetwork:
    model: nn.Module

    def build(self, settings: Settings, info: DataInfo) -> nn.Module:
        """A copy, weights and all; the original stays as it is."""
        return copy.deepcopy(self.model)


def own_backbone(model: nn.Module, name: str) -> Entry:
    """The network, with its weights, as a backbone.

    Raises:
        DataError: it is no network, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise DataError(Problem("model", f"is a {type(model).__name__}, not a torch.nn.Module"))
    try:
        kept = copy.deepcopy(model)
    except Exception as error:
        what = f"cannot be copied ({type(error).__name__}: {error})"
        raise DataError(Problem("model", what, "keep no tensors on it that were computed from others")) from error
    digest = _network_digest(kept)
    summary = "A network of this process."
    record = BackboneDef(name=name, summary=summary, load=_OwnNetwork(kept.cpu()), fingerprint=lambda _: digest)
    return Entry(LOCAL, record, Settings())


def _network_digest(model: nn.Module) -> str:
    """A digest of structure, code and weights."""
    kinds = sorted({type(part) for part in model.modules()}, key=lambda kind: (kind.__module__, kind.__qualname__))
    digest = hashlib.sha256(repr(model).encode())
    for kind in kinds:
        digest.update(f"{kind.__module__}.{kind.__qualname__}{_source(kind)}".encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key}{digest_of([value.detach().cpu().float().numpy()])}".encode())
    return digest.hexdigest()


def _source(kind: type) -> str:
    """Its code; nothing for a library's class, and for one typed into a plain interpreter, which keeps none."""
    if kind.__module__.partition(".")[0] in ("torch", "torchvision"):
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
