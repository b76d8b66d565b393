"""Accuracy of the deployed file, run in its own runtime: what the task counts as right, and top-5 where it applies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from pqd_core import Deployed, MeasureContext, Measurement, MetricDef, Session, Split, Task, eval_batches
from pqd_measure import ACCURACY, ACCURACY_TOP5, ACCURACY_VALIDATION, AccuracySettings
from pqd_measure.cells import missing, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP5_FROM = 6
"""With fewer classes the top five are all of them, or nearly."""
WILSON = "half of the 95 % Wilson interval: the chance of these images, not of the training seed"
BOOTSTRAP = "half of the 95 % bootstrap interval over the images: their chance, not that of the training seed"
RESAMPLES = 999


@frozen(eq=False)
class Answers:
    """What became of a split's images, in order."""

    outputs: NDArray[np.floating]
    """(N, outputs)"""
    targets: NDArray[Any]
    """(N,) classes, or (N, outputs)."""
    split: str

    @property
    def broken(self) -> int:
        """How many images had an output that is not finite."""
        return int((~np.isfinite(self.outputs).all(axis=1)).sum())


def measure(
    candidates: Sequence[Deployed], settings: AccuracySettings, context: MeasureContext
) -> list[list[Measurement]]:
    """For each candidate: accuracy, its top-5 form, and accuracy on the validation images."""
    return [_measure_one(candidate, settings, context) for candidate in candidates]


def _measure_one(candidate: Deployed, settings: AccuracySettings, context: MeasureContext) -> list[Measurement]:
    data, task = context.data, context.task
    with closing(context.open_session(candidate)) as session:
        test = ask(session, data.test, "test", settings.batch, context)
        held_out = data.validation and ask(session, data.validation, "validation", settings.batch, context)
    return [
        _accuracy(ACCURACY, test, task),
        _top5(test, data.info.num_classes),
        _accuracy(ACCURACY_VALIDATION, held_out, task)
        if held_out
        else missing(ACCURACY_VALIDATION, "no image was set apart for validation"),
    ]


def ask(session: Session, split: Split, name: str, batch: int, context: MeasureContext) -> Answers:
    """Every image of `split` put to the session once, in order."""
    batches = eval_batches(split, context.data.info, batch)
    parts = [(session(part.inputs.numpy()), part.targets.numpy()) for part in batches]
    outputs, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Answers(outputs, targets, name)


def _accuracy(metric: MetricDef, answers: Answers, task: Task) -> Measurement:
    import torch

    right = task.right(torch.from_numpy(answers.outputs), torch.from_numpy(answers.targets)).numpy().astype(np.float64)
    spread, how = spread_of(right) if not answers.broken else (0.0, "")
    return _number(metric, answers, float(right.mean()), spread, accuracy_is=task.accuracy_is, spread_is=how)


def _top5(answers: Answers, classes: int) -> Measurement:
    if answers.targets.ndim != 1:
        return missing(ACCURACY_TOP5, "an image has no single class here")
    if classes < TOP5_FROM:
        return missing(ACCURACY_TOP5, f"only {classes} classes")
    right = rank_of(answers.outputs, answers.targets) < 5
    return _number(ACCURACY_TOP5, answers, float(right.mean()), wilson(int(right.sum()), len(right)), spread_is=WILSON)


def _number(metric: MetricDef, answers: Answers, value: float, spread: float, **told: str) -> Measurement:
    images, broken, split = len(answers.targets), answers.broken, answers.split
    if broken:
        return missing(metric, f"the outputs for {broken} of {images} images are not finite", split=split)
    return number(metric, value, spread=spread, n=images, split=split, **told)


def rank_of(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """The place (N,) of each label among its logits (N, classes), 0 for the largest.

    Equal logits, which INT8 outputs do have, are ranked by class number, as `argmax` does.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    places: NDArray[np.intp] = np.argmax(order == labels[:, None], axis=1)
    return places


def spread_of(right: NDArray[np.float64]) -> tuple[float, str]:
    """Half the width of the 95 % interval of the mean of `right` (N,), and how it was found."""
    from scipy.stats import bootstrap

    if np.isin(right, (0, 1)).all():
        return wilson(int(right.sum()), len(right)), WILSON
    found = bootstrap((right,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0))
    return float(found.confidence_interval.high - found.confidence_interval.low) / 2, BOOTSTRAP


def wilson(hits: int, images: int) -> float:
    """Half the width of the 95 % interval of Wilson (1927) for a proportion; positive even for 0 % and 100 %."""
    from scipy.stats import binomtest

    low, high = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    return float(high - low) / 2
