"""Top-1 and top-5 accuracy of the deployed file, run in its own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from pqd_core import Deployed, MeasureContext, Measurement, MetricDef, Session, Split, eval_batches
from pqd_measure import ACCURACY, ACCURACY_TOP5, ACCURACY_VALIDATION, AccuracySettings
from pqd_measure.cells import missing, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPREAD = "half of the 95 % Wilson interval: the chance of these images, not of the training seed"
TOP5_FROM = 6
"""With fewer classes the top five are all of them, or nearly."""


@frozen
class Tally:
    """What became of `images` images; `broken` of them had an output that is not finite."""

    images: int
    top1: int
    top5: int
    broken: int


def measure(
    candidates: Sequence[Deployed], settings: AccuracySettings, context: MeasureContext
) -> list[list[Measurement]]:
    """For each candidate: accuracy, its top-5 form, and accuracy on the validation images."""
    return [_measure_one(candidate, settings, context) for candidate in candidates]


def _measure_one(candidate: Deployed, settings: AccuracySettings, context: MeasureContext) -> list[Measurement]:
    data = context.data
    with closing(context.open_session(candidate)) as session:
        test = tally(session, data.test, settings.batch, context)
        held_out = None if data.validation is None else tally(session, data.validation, settings.batch, context)
    few = data.info.num_classes < TOP5_FROM
    return [
        _share(ACCURACY, test, test.top1, "test"),
        missing(ACCURACY_TOP5, f"only {data.info.num_classes} classes")
        if few
        else _share(ACCURACY_TOP5, test, test.top5, "test"),
        missing(ACCURACY_VALIDATION, "no image was set apart for validation")
        if held_out is None
        else _share(ACCURACY_VALIDATION, held_out, held_out.top1, "validation"),
    ]


def tally(session: Session, split: Split, batch: int, context: MeasureContext) -> Tally:
    """Every image of `split` classified once, in order."""
    top1 = top5 = broken = 0
    for part in eval_batches(split, context.data.info, batch):
        logits, labels = session(part.inputs.numpy()), part.targets.numpy()
        place = rank_of(logits, labels)
        top1, top5 = top1 + int((place < 1).sum()), top5 + int((place < 5).sum())
        broken += int((~np.isfinite(logits).all(axis=1)).sum())
    return Tally(len(split), top1, top5, broken)


def rank_of(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """The place (N,) of each label among its logits (N, classes), 0 for the largest.

    Equal logits, which INT8 outputs do have, are ranked by class number, as `argmax` does.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    places: NDArray[np.intp] = np.argmax(order == labels[:, None], axis=1)
    return places


def _share(metric: MetricDef, counts: Tally, hits: int, split: str) -> Measurement:
    if counts.broken:
        return missing(metric, f"the outputs for {counts.broken} of {counts.images} images are not finite", split=split)
    return number(
        metric, hits / counts.images, spread=wilson(hits, counts.images), n=counts.images, split=split, spread_is=SPREAD
    )


def wilson(hits: int, images: int) -> float:
    """Half the width of the 95 % interval of Wilson (1927) for a proportion; positive even for 0 % and 100 %."""
    from scipy.stats import binomtest

    low, high = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    return float(high - low) / 2
