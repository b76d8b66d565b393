"""One of each of torchvision's classification families through the whole pipeline and both runtimes.

Other benchmarks and the test of the sweep import it as `benchmarks.sweep`.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import field, frozen
from torch import Tensor, nn
from torchao.quantization.pt2e import FakeQuantizeBase

from benchmarks.networks import make_context
from pqd_core import Arrays, Data, DataInfo, Training, fit
from pqd_distill import LogitKdSettings, logit_kd
from pqd_int8 import Int8QatSettings, int8_qat
from pqd_int8.fake_quant import ActivationFakeQuant
from pqd_prune import MagnitudeSettings, magnitude
from pqd_runtimes import RUNTIMES, onnx_graph
from pqd_vision import torchvision_model
from pqd_vision.settings import TorchvisionModel

IMAGES, COPIES = 16, 3
"""Images to train on, and noisy copies of each of them that the comparison adds."""
LEARNING_STEPS = 20
LEARNING = Training(optimizer="adamw", lr=1e-3, weight_decay=0, warmup=0.1, batch_size=IMAGES, augment=False)
FEW_STEPS = 4
"""How near an output counts as the same: INT8 steps of the last layer, 1/255 of its outputs' range each."""
LAST_BITS = 2.0**-21
"""A sum of a thousand products in float32 is known to about this, relatively."""
ONE_STEP = Training(lr=1e-5, batch_size=IMAGES, augment=False)
STAGES: tuple[tuple[Any, Any], ...] = (
    (magnitude, MagnitudeSettings(sparsity=0.7, scope="layer", training=ONE_STEP)),
    (int8_qat, Int8QatSettings(weight_range="full", calibration_images=IMAGES, training=ONE_STEP)),
    (logit_kd, LogitKdSettings(training=ONE_STEP)),
)


@frozen
class Family:
    """The smallest member of a family, and the smallest images that it takes."""

    name: str
    model: str
    size: int = 32
    kwargs: dict[str, Any] = field(factory=dict)


FAMILIES = (
    Family("AlexNet", "alexnet", 64),
    Family("VGG", "vgg11_bn"),
    Family("ResNet", "resnet18"),
    Family("ResNeXt", "resnext50_32x4d"),
    Family("Wide ResNet", "wide_resnet50_2"),
    Family("SqueezeNet", "squeezenet1_1"),
    Family("DenseNet", "densenet121"),
    Family("GoogLeNet", "googlenet"),
    Family("Inception v3", "inception_v3", 75),
    Family("ShuffleNet v2", "shufflenet_v2_x0_5"),
    Family("MobileNet v2", "mobilenet_v2"),
    Family("MobileNet v3", "mobilenet_v3_small"),
    Family("MNASNet", "mnasnet0_5"),
    Family("EfficientNet", "efficientnet_b0"),
    Family("EfficientNet v2", "efficientnet_v2_s"),
    Family("RegNet", "regnet_x_400mf"),
    Family("ConvNeXt", "convnext_tiny"),
    Family("ViT", "vit_b_32", 32, {"image_size": 32}),
    Family("Swin", "swin_t"),
    Family("MaxViT", "maxvit_t", 224),
)


@frozen
class Agreement:
    """How far a deployed file's outputs are from the simulated network's, in INT8 steps of the last layer."""

    near: float
    """Share of the outputs that are within `FEW_STEPS`."""
    rms: float
    largest: float
    changed: float
    """Share of the images with another prediction."""


@frozen
class Outcome:
    """What became of one family."""

    layers: int
    int8_layers: int
    parameters: int
    seconds: float
    rounding: Agreement
    """The simulated network beside itself unrounded: what INT8 costs at all."""
    jitter: Agreement
    """The simulated network beside itself in another float arithmetic: how far two right answers may lie apart."""
    agreement: dict[str, Agreement]


def sweep(family: Family, folder: Path) -> Outcome:
    """Prune, quantize, distill for one step each, deploy to both runtimes, compare."""
    began = time.perf_counter()
    torch.manual_seed(0)
    data = blobs(family.size)
    settings = TorchvisionModel(name=family.model, kwargs=family.kwargs)
    model = torchvision_model.build(settings, data.info)
    enliven(model, normalized(data.train))
    model = fit(model, make_context(data, epochs=LEARNING_STEPS), LEARNING)
    images = normalized(data.test)
    parameters = sum(p.numel() for p in model.parameters())
    teacher, facts = copy.deepcopy(model), {}
    for stage, stage_settings in STAGES:
        around = make_context(data, epochs=1, facts=facts, baseline=teacher)
        model = stage.run(stage.restructure(model, stage_settings, around), stage_settings, around)
        facts = around.facts
    with torch.no_grad():
        simulated = model.eval()(images).numpy()
        rounding = compare(simulated, unrounded(model, images))
        jitter = compare(simulated, jittered(model, images))
    frozen_model = int8_qat.freeze(model)
    agreement, shared = {}, folder / "shared"
    shared.mkdir()
    for record in (record for record in RUNTIMES if record.name in ("onnxruntime", "openvino")):
        (own := folder / record.name).mkdir()
        runtime, chosen = record.implementation(), record.settings()
        file = runtime.export(frozen_model, torch.zeros(2, *data.info.shape), own, shared, chosen)
        agreement[record.name] = compare(simulated, runtime.open_session(file, 1, chosen)(images.numpy()))
    types = [weight.dtype for weight in onnx_graph.weights(shared / "model.onnx").values()]
    seconds = time.perf_counter() - began
    return Outcome(len(types), sum(t == np.int8 for t in types), parameters, seconds, rounding, jitter, agreement)


def unrounded(model: nn.Module, images: Tensor) -> np.ndarray:
    """What the network answers when nothing is rounded."""
    parts = [part for part in model.modules() if isinstance(part, FakeQuantizeBase)]
    for part in parts:
        part.disable_fake_quant()
    outputs: np.ndarray = model(images).numpy()
    for part in parts:
        part.enable_fake_quant()
    return outputs


def jittered(model: nn.Module, images: Tensor) -> np.ndarray:
    """What the network answers when the last bits of whatever is rounded differ, as they do in another arithmetic."""
    noise = torch.Generator().manual_seed(0)

    def jitter(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * (1 + LAST_BITS * torch.randn(inputs[0].shape, generator=noise)),)

    parts = [part for part in model.modules() if isinstance(part, ActivationFakeQuant)]
    hooks = [part.register_forward_pre_hook(jitter) for part in parts]
    outputs: np.ndarray = model(images).numpy()
    for hook in hooks:
        hook.remove()
    return outputs


def compare(simulated: np.ndarray, deployed: np.ndarray) -> Agreement:
    """How far `deployed` is from `simulated`, both (images, classes)."""
    step = float(np.ptp(simulated)) / 255
    error = abs(deployed - simulated) / step
    changed = float((deployed.argmax(1) != simulated.argmax(1)).mean())
    return Agreement(float((error <= FEW_STEPS).mean()), float(np.sqrt((error**2).mean())), float(error.max()), changed)


def normalized(split: Any) -> Tensor:
    """The images of a split as a network sees them."""
    return (torch.from_numpy(split.images).float() / 255 - 0.5) / 0.25


def blobs(size: int) -> Data:
    """Random images of large coloured squares, so that they survive pooling; to test on, with noisy copies."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (IMAGES, 3, 4, 4), dtype=np.uint8)
    repeats = -(-size // 4)
    images = np.ascontiguousarray(coarse.repeat(repeats, 2).repeat(repeats, 3)[:, :, :size, :size])
    noisy = [images, *((images + rng.normal(0, 16, images.shape)).clip(0, 255).astype(np.uint8) for _ in range(COPIES))]
    labels = np.arange(IMAGES, dtype=np.int64) % 10
    test = Arrays(np.concatenate(noisy), np.tile(labels, COPIES + 1))
    return Data(DataInfo("blobs", (3, size, size), 10, (0.5,) * 3, (0.25,) * 3), Arrays(images, labels), test)


@torch.no_grad()
def enliven(model: nn.Module, images: Tensor) -> None:
    """The untrained network tells images apart: fresh ones answer all images alike, some with nothing but zeros.

    Each layer's outputs have mean 0 and deviation 1 over the images, by its weight and bias or by its batch norm.
    """
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:
            parameter.fill_(0.3)
        elif parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None]
    hooks = [layer.register_forward_hook(_normalize) for layer in layers]
    for norm in norms:
        norm.momentum = 1.0  # for good: a single step has to undo what pruning did to the statistics
    model.train()(images)
    for hook in hooks:
        hook.remove()
    model.eval()


def _normalize(layer: nn.Conv2d | nn.Linear, _: object, outputs: Tensor) -> Tensor:
    channels = 1 if isinstance(layer, nn.Conv2d) else outputs.dim() - 1
    others = [axis for axis in range(outputs.dim()) if axis != channels]
    mean, deviation = outputs.mean(others), outputs.std().clamp(min=1e-6)
    assert layer.bias is not None
    layer.weight.div_(deviation)
    layer.bias.sub_(mean).div_(deviation)
    shape = [-1 if axis == channels else 1 for axis in range(outputs.dim())]
    return (outputs - mean.view(shape)) / deviation
