"""What is asked of backbones: to be a network for the data, built the same way each time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pqd_core.data import DataInfo
from pqd_core.facts import BASELINE_FACTS, FACTS
from pqd_core.model import build_network, load_weights
from pqd_core.records import BackboneDef, resolve
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.state import watched
from pqd_core.testing.workshop import refusals, workshop

CLASSES = 5


def _info(shape: tuple[int, int, int]) -> DataInfo:
    channels = shape[0]
    return DataInfo("toy-images", shape, CLASSES, (0.5,) * channels, (0.25,) * channels)


def _network(case: Case, seed: int = 0) -> nn.Module:
    return build_network(workshop(case).entry, _info(case.shape), seed)


def _images(case: Case, count: int = 3) -> Tensor:
    return torch.rand(count, *case.shape, generator=torch.Generator().manual_seed(1))


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model.eval()(images)
    return logits


@check(BackboneDef)
def gives_logits(case: Case) -> None:
    """In training and after it the network gives finite float32 logits (N, classes), for any batch size."""
    model = _network(case)
    for count in (1, 2, 3):
        logits = _answers(model, _images(case, count))
        require(logits.shape == (count, CLASSES), f"gives {tuple(logits.shape)} for {count} images, {CLASSES} classes")
        require(logits.dtype == torch.float32 and bool(logits.isfinite().all()), "logits are not finite float32")
    trained = model.train()(_images(case))
    require(isinstance(trained, Tensor), f"gives a {type(trained).__name__} in training; give the logits alone")
    require(trained.shape == (3, CLASSES), f"gives {tuple(trained.shape)} in training")


@check(BackboneDef)
def every_parameter_learns(case: Case) -> None:
    """Training reaches every parameter: none is left without a gradient."""
    torch.manual_seed(0)
    model = _network(case).train()
    torch.autograd.backward(F.cross_entropy(model(_images(case)), torch.arange(3)))
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    require(not idle, f"no gradient reaches {', '.join(idle[:5])}")


@check(BackboneDef)
def baseline_facts_hold(case: Case) -> None:
    """A new network is trainable and made of plain modules."""
    model = _network(case)
    problems = [problem for fact in sorted(BASELINE_FACTS) for problem in resolve(FACTS[fact].probe)(model, {})]
    require(not problems, "; ".join(problems))


@check(BackboneDef)
def same_seed_same_weights(case: Case) -> None:
    """A seed decides the initial weights."""
    one, again = (_network(case, seed=3).state_dict() for _ in range(2))
    differing = [name for name in one if not torch.equal(one[name], again[name])]
    require(not differing, f"two builds with one seed differ in {', '.join(differing[:5])}")


@check(BackboneDef)
def weights_can_be_loaded(case: Case) -> None:
    """A second network answers as the first once it has the first one's weights."""
    one, other = _network(case, seed=1).eval(), _network(case, seed=2).eval()
    load_weights(other, {name: tensor.clone() for name, tensor in one.state_dict().items()}, "the first network")
    same = torch.allclose(_answers(one, _images(case)), _answers(other, _images(case)), atol=1e-5)
    require(same, "a network with another's weights answers otherwise; keep everything learned in the state dict")


@check(BackboneDef)
def can_be_traced(case: Case) -> None:
    """torch.export takes the network with a free batch size, so that it can be quantized and deployed."""
    model, batch = _network(case).eval(), torch.export.Dim.DYNAMIC
    program = torch.export.export(model, (_images(case, 2),), dynamic_shapes=({0: batch},)).module()
    with torch.inference_mode():
        traced = program(_images(case, 3))
    require(torch.allclose(traced, _answers(model, _images(case)), atol=1e-4), "the traced network answers otherwise")


@check(BackboneDef)
def building_leaves_the_process_alone(case: Case) -> None:
    """Environment, folder, log handlers and torch's settings come back as they were."""
    _network(case)
    with watched(seeded=True) as changes:
        _network(case)
    require(not changes, f"building changed {', '.join(changes)}")


@check(BackboneDef)
def refuses_images_with_a_reason(case: Case) -> None:
    """A network is built for images of one pixel, or refused by a `PqdError` that says why."""
    with refusals("images of one pixel"):
        build_network(workshop(case).entry, _info((case.shape[0], 1, 1)), 0)
