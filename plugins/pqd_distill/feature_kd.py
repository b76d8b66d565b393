"""Attention transfer: the student looks where its teacher looks (Zagoruyko and Komodakis 2017, arXiv:1612.03928).

An attention map is the sum over channels of |activation|^power, one number for each place in the image, scaled to
length 1 (section 3.1). The loss is cross-entropy plus `beta / 2` times the squared distance of student's and teacher's
maps, averaged over places and images and summed over the compared layers (equation 2, and section 4.1.1 for beta).

Maps have no channels, so a narrowed student fits its wide teacher. Student and teacher need only agree on image sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from pqd_core import Batch, DataError, Problem, StageContext, fit, task_loss
from pqd_distill import FeatureKdSettings
from pqd_distill.taps import Seen, layer_names, tapped
from pqd_distill.teacher import answers, fitting_teacher, ready_teacher

WHERE = "feature-kd"
Size = tuple[int, int]
"""Height and width."""


def restructure(model: nn.Module, settings: FeatureKdSettings, context: StageContext) -> nn.Module:
    """Nothing changes: the teacher is no part of the model."""
    return model


def rehearse(model: nn.Module, settings: FeatureKdSettings, context: StageContext) -> None:
    """The teacher fits, and there are layers to compare.

    Raises:
        DataError: as by `run`.
    """
    compared_layers(model, fitting_teacher(settings, context, WHERE), settings, context)


def run(model: nn.Module, settings: FeatureKdSettings, context: StageContext) -> nn.Module:
    """The network is trained on the labels and to attend like its teacher to the same augmented images.

    Raises:
        DataError: the teacher's weights cannot be loaded, or there are no layers to compare.
    """
    teacher = ready_teacher(settings, context, WHERE)
    pairs = compared_layers(model, teacher, settings, context)
    context.log.info("attention is compared", layers=pairs)
    hard = task_loss(context.task, settings.training.label_smoothing)
    with tapped(model, list(pairs)) as own, tapped(teacher, list(pairs.values())) as taught:
        loss = AttentionLoss(teacher, pairs, own, taught, settings, hard)
        return fit(model, context, settings.training, loss=loss)


def freeze(model: nn.Module) -> nn.Module:
    """Nothing changes: the teacher stays behind."""
    return model


@frozen(eq=False)
class AttentionLoss:
    """A loss for `fit` that shows a teacher each batch and compares what both have attended to."""

    teacher: nn.Module
    pairs: Mapping[str, str]
    """The teacher's layer by the student's."""
    own: Seen
    taught: Seen
    settings: FeatureKdSettings
    hard: task_loss

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """A scalar, the mean over the batch."""
        answers(self.teacher, batch.inputs)
        gaps = [self.distance(self.own[mine], self.taught[theirs]) for mine, theirs in self.pairs.items()]
        return self.hard(logits, batch) + self.settings.beta / 2 * torch.stack(gaps).sum()

    def distance(self, own: Tensor, taught: Tensor) -> Tensor:
        """Mean squared difference of the two attention maps."""
        power = self.settings.power
        return F.mse_loss(attention(own, power), attention(taught, power))


def attention(features: Tensor, power: float) -> Tensor:
    """Maps (N, H * W) of length 1 of features (N, C, H, W), float32."""
    return F.normalize(features.float().abs().pow(power).sum(1).flatten(1), dim=1)


def compared_layers(
    model: nn.Module, teacher: nn.Module, settings: FeatureKdSettings, context: StageContext
) -> dict[str, str]:
    """The teacher's layer by the student's: those that are asked for, or the last of each image size that both have.

    Raises:
        DataError: a layer is unknown, gives no image, or one of another size than its counterpart.
    """
    sizes, taught = _image_sizes(model, context), _image_sizes(teacher, context)
    if not settings.layers:
        common = {size: layer for layer, size in taught.items() if sizes.get(layer) == size}
        if not common:
            what = "student and teacher have no layer of one name and image size"
            raise DataError(Problem(WHERE, what, "name the layers to compare under layers and teacher_layers"))
        return {layer: layer for layer in common.values()}
    pairs = dict(zip(settings.layers, settings.teacher_layers or settings.layers, strict=True))
    if problems := list(_mismatches(pairs, sizes, taught)):
        raise DataError(*problems)
    return pairs


def _mismatches(pairs: Mapping[str, str], sizes: Mapping[str, Size], taught: Mapping[str, Size]) -> Iterator[Problem]:
    for mine, theirs in pairs.items():
        for layer, who, known in ((mine, "the network", sizes), (theirs, "the teacher", taught)):
            if layer not in known:
                what = f"{who} has no layer {layer!r} that gives an image"
                yield Problem(f"{WHERE}.layers", what, f"those that do are {', '.join(known)}")
        if mine in sizes and theirs in taught and sizes[mine] != taught[theirs]:
            what = f"{mine} gives images of {sizes[mine]}, the teacher's {theirs} of {taught[theirs]}"
            yield Problem(f"{WHERE}.layers", what, "compare layers that see the image at one size")


@torch.no_grad()
def _image_sizes(model: nn.Module, context: StageContext) -> dict[str, Size]:
    """Height and width of what each layer gives, for layers that give images of more than one place; last ones last."""
    device = next(model.parameters()).device
    with tapped(model, layer_names(model)) as seen:
        model.eval()(context.example.to(device))
    images = {name: out for name, out in seen.items() if isinstance(out, Tensor) and out.dim() == 4}
    return {name: (out.shape[2], out.shape[3]) for name, out in images.items() if out.shape[2] * out.shape[3] > 1}
