"""The shared words about models, each with a probe that looks.

A plugin may bring words of its own with its stage (`StageDef.gives`); these are the ones that stages of
different authors have to agree on.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pqd_core.records import FactDef

if TYPE_CHECKING:
    from torch import Tensor, nn

TRAINABLE = "trainable"
PLAIN_MODULES = "plain-modules"
SPARSE = "sparse"
FAKE_QUANT = "fake-quant"


class FakeQuantizer(ABC):  # noqa: B024 - nothing is asked of those that are registered
    """What rounds in a forward pass as an integer runtime will: a word for classes of modules, not one to inherit.

    torchao's fake quantizers are known. A stage that uses another library's says so of their class where its code is
    loaded: `FakeQuantizer.register(Quantizer)`.
    """


def probe_trainable(model: nn.Module, _: Mapping[str, Tensor]) -> list[str]:
    """At least one parameter takes a gradient."""
    return [] if any(p.requires_grad for p in model.parameters()) else ["no parameter takes a gradient"]


def probe_plain_modules(model: nn.Module, _: Mapping[str, Tensor]) -> list[str]:
    """No part of the model is a traced graph or a fake quantizer; both are made for the shapes that they met."""
    from torch.fx import GraphModule

    traced = [name or "the model" for name, part in model.named_modules() if isinstance(part, GraphModule)]
    if traced:
        return [f"{traced[0]} is a traced graph"]
    rounded = fake_quantizers(model)
    return [f"{rounded[0]} is a fake quantizer"] if rounded else []


def probe_sparse(model: nn.Module, masks: Mapping[str, Tensor]) -> list[str]:
    """Each masked weight is exactly zero wherever its mask is."""
    if not masks:
        return ["no mask was left as evidence"]
    parameters = dict(model.named_parameters())
    problems = [f"{name} is gone" for name in masks if name not in parameters]
    for name, mask in masks.items():
        if name in parameters and (drifted := _nonzero_outside(parameters[name], mask)):
            problems.append(f"{name}: {drifted} pruned weights are no longer zero")
    return problems


def _nonzero_outside(weight: Tensor, mask: Tensor) -> int:
    return int((weight.detach()[~mask.to(weight.device).bool()] != 0).sum())


def hold_sparse(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set each masked weight to zero wherever its mask is: to 0, where a product would leave a negative weight's -0."""
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~mask.to(parameters[name].device).bool(), 0)


def probe_fake_quant(model: nn.Module, _: Mapping[str, Tensor]) -> list[str]:
    """The model simulates quantization somewhere."""
    return [] if fake_quantizers(model) else ["no fake quantization in the model"]


def fake_quantizers(model: nn.Module) -> list[str]:
    """Names of the parts of `model` that simulate quantization."""
    from torchao.quantization.pt2e import FakeQuantizeBase

    kinds = (FakeQuantizer, FakeQuantizeBase)
    return [name or "the model" for name, part in model.named_modules() if isinstance(part, kinds)]


FACTS = {
    fact.name: fact
    for fact in (
        FactDef(TRAINABLE, "its parameters take gradients", probe_trainable),
        FactDef(PLAIN_MODULES, "it is made of modules, so that its structure can be changed", probe_plain_modules),
        FactDef(SPARSE, "weights are zero where a mask says so, and stay zero", probe_sparse, hold_sparse),
        FactDef(FAKE_QUANT, "its forward pass simulates quantization", probe_fake_quant),
    )
}
BASELINE_FACTS = frozenset({TRAINABLE, PLAIN_MODULES})
