"""Recipes: the quickstart, and the pipelines of "Prune-Quantize-Distill" (arXiv 2604.04988).

The paper trains three backbones on CIFAR-10 and CIFAR-100, prunes without structure, quantizes in training and
distills, with 20, 40 and 40 epochs. It says nothing here that a spec of one's own could not say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pqd_core import RecipeDef, hookimpl

BACKBONES = ("resnet18-cifar", "wrn-28-10", "vgg16-bn")
DATASETS = ("cifar10", "cifar100")
SHORT = {"resnet18-cifar": "resnet18", "wrn-28-10": "wrn-28-10", "vgg16-bn": "vgg16-bn"}
RUNTIMES = ["onnxruntime", "openvino"]
MINI_WIDTH = {"resnet18-cifar": 0.25, "wrn-28-10": 0.1, "vgg16-bn": 0.25}
SEEDS = [0, 1, 2]


def quickstart() -> dict[str, Any]:
    """scikit-learn's digits through the whole path in about two minutes of two CPU cores."""
    return {
        "description": "A small residual network on scikit-learn's handwritten digits; needs no download.",
        "backbone": "resnet20",
        "dataset": "digits",
        "baseline": {"epochs": 12, "batch_size": 64, "lr": 0.1, "warmup": 0.1},
        "stages": [
            {"use": "magnitude", "sparsity": 0.7},
            {"use": "int8-qat"},
            {"use": "logit-kd"},
        ],
        "budget": {"epochs": 10, "split": [20, 40, 40]},
        "runtimes": RUNTIMES,
    }


def paper(backbone: str, dataset: str) -> dict[str, Any]:
    """One of the paper's six pipelines at full size; meant for an accelerator."""
    return {
        "description": f"{backbone} on {dataset}, 20/40/40 epochs (arXiv 2604.04988).",
        "backbone": backbone,
        "dataset": dataset,
        "validation": 0.0,
        "baseline": {"epochs": 200, "lr": 0.1, "weight_decay": 5e-4, "batch_size": 128},
        "stages": ["magnitude", "int8-qat", "logit-kd"],
        "budget": {"epochs": 100, "split": [20, 40, 40]},
        "runtimes": RUNTIMES,
    }


def mini(backbone: str) -> dict[str, Any]:
    """The paper's pipeline on a narrow network and 5,000 images, for a CPU."""
    return {
        "description": f"{backbone} at {MINI_WIDTH[backbone]} of its width, on 5,000 images of CIFAR-10.",
        "backbone": {"use": backbone, "width": MINI_WIDTH[backbone]},
        "dataset": {"use": "cifar10", "limit": 5000},
        "baseline": {"epochs": 10, "lr": 0.1, "batch_size": 64, "warmup": 0.1},
        "stages": ["magnitude", "int8-qat", "logit-kd"],
        "budget": {"epochs": 10, "split": [20, 40, 40]},
        "runtimes": RUNTIMES,
    }


def orders(spec: dict[str, Any]) -> dict[str, Any]:
    """The ablation over the order: the same stages in all six orders, each stage with its own epochs, three seeds."""
    return {**spec, "description": f"All six orders: {spec['description']}", "study": "orders", "seeds": SEEDS}


def mini_orders(backbone: str) -> dict[str, Any]:
    """The ablation for a CPU: half of `mini`'s width, 2,000 images, and half of the epochs for the stages."""
    width = MINI_WIDTH[backbone] / 2
    return {
        **orders(mini(backbone)),
        "description": f"All six orders: {backbone} at {width} of its width, on 2,000 images of CIFAR-10.",
        "backbone": {"use": backbone, "width": width},
        "dataset": {"use": "cifar10", "limit": 2000},
        "budget": {"epochs": 5, "split": [20, 40, 40]},
    }


@hookimpl
def pqd_recipes() -> Iterable[RecipeDef]:
    """Bring `quickstart`, the paper's six, their ablations over the order, and small forms of both."""
    yield RecipeDef(name="quickstart", summary="Digits, two minutes on two CPU cores.", spec=quickstart())
    for backbone in BACKBONES:
        for dataset in DATASETS:
            summary = f"{backbone} on {dataset}, 20/40/40 epochs, full size."
            name, spec = f"paper/{SHORT[backbone]}-{dataset}", paper(backbone, dataset)
            yield RecipeDef(name=name, summary=summary, spec=spec)
            yield RecipeDef(name=f"{name}-orders", summary=f"All six orders, three seeds: {summary}", spec=orders(spec))
    parts = tuple(f"paper/mini-{SHORT[backbone]}" for backbone in BACKBONES)
    yield RecipeDef(name="paper/mini", summary="The three narrow networks, one after another.", parts=parts)
    for backbone in BACKBONES:
        summary = f"{backbone}, narrow, on 5,000 images of CIFAR-10, for a CPU."
        yield RecipeDef(name=f"paper/mini-{SHORT[backbone]}", summary=summary, spec=mini(backbone))
    parts = tuple(f"paper/mini-{SHORT[backbone]}-orders" for backbone in BACKBONES)
    yield RecipeDef(
        name="paper/mini-orders", summary="All six orders of the three, narrower, three seeds.", parts=parts
    )
    for backbone in BACKBONES:
        summary = f"All six orders, three seeds: {backbone}, narrow, on 2,000 images of CIFAR-10, for a CPU."
        yield RecipeDef(name=f"paper/mini-{SHORT[backbone]}-orders", summary=summary, spec=mini_orders(backbone))
