"""A deployed file beside the model that it came from, on real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.context import RunContext
    from pqd_core.host.entries import Entry


@frozen
class Parity:
    """How a deployed file's outputs compare with the frozen torch model's on `images` real images."""

    images: int
    max_abs_difference: float
    changed_predictions: float
    """Share of images whose prediction (the class, say) differs, or whose outputs are not finite."""


PARITY_IMAGES = 512
CHANCE = 0.001
"""How seldom a file that is within the limit may be refused because of the images that were drawn."""


def compare(model: nn.Module, file: Path, runtime: Entry, context: RunContext) -> Parity:
    """How far the file's outputs are from the frozen model's on the first real images of the test split.

    Raises:
        FloatingPointError: the model itself has no finite outputs to compare with.
    """
    import numpy as np
    import torch

    from pqd_core.batches import eval_batches

    images, worst, changed = 0, 0.0, 0
    session = runtime.record.implementation().open_session(file, context.threads, runtime.settings)
    try:
        for batch in eval_batches(context.test, context.info, 64, PARITY_IMAGES):
            with torch.inference_mode():
                expected = model(batch.inputs).numpy()
            if not np.isfinite(expected).any():
                raise FloatingPointError("the network's own outputs are not finite; train with a lower learning rate")
            got = session(batch.inputs.numpy())
            finite = np.isfinite(got).all(1) & np.isfinite(expected).all(1)
            worst = max(worst, float(abs(got - expected)[finite].max(initial=0.0)))
            agreed = context.task.agree(torch.from_numpy(got), torch.from_numpy(expected)).numpy()
            changed += int((~agreed | ~finite).sum())
            images += len(batch)
    finally:
        session.close()
    return Parity(images, worst, changed / images)


def disagrees(parity: Parity, limit: float) -> bool:
    """Whether so many changed predictions speak against a share of at most `limit` among all images.

    An exact binomial test: of files that change just that share, fewer than `CHANCE` show as many on as many images.
    """
    from scipy.stats import binom

    changed = round(parity.changed_predictions * parity.images)
    return bool(binom.sf(changed - 1, parity.images, limit) < CHANCE)
