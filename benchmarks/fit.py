"""`fit` against a loop written by hand for the same work, in alternating rounds of one process.

    python benchmarks/fit.py [--rounds 15] [--threads 2]

Both train the same network from the same weights on the same batches with the same optimizer, schedule and
augmentation, and end with the same weights, which is checked. The ratio of their times is what `fit` costs.
"""

from __future__ import annotations

import argparse
import copy
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from evidence import summary, write_result
from torch import nn
from torch.nn import functional as F

from pqd_core import Arrays, Augmentation, Data, DataInfo, StageContext, Training, fit
from pqd_core.host.log import get_logger

IMAGES, EPOCHS, SEED = 512, 2, 0


def make_network() -> nn.Module:
    """resnet20 at full width for 32x32 images."""
    from pqd_vision import resnet20

    torch.manual_seed(SEED)
    settings: Any = SimpleNamespace(width=1.0)
    return resnet20.build(settings, INFO)


INFO = DataInfo("random", (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3, Augmentation())


def make_data() -> Data:
    """Random images: speed does not depend on what is on them."""
    rng = np.random.default_rng(SEED)
    images = rng.integers(0, 256, (IMAGES, *INFO.shape), dtype=np.uint8)
    split = Arrays(images, rng.integers(0, 10, IMAGES))
    return Data(INFO, split, split)


def with_fit(model: nn.Module, data: Data, training: Training) -> nn.Module:
    """Train through pqd."""
    context = StageContext(
        epochs=EPOCHS,
        seed=SEED,
        device=torch.device("cpu"),
        info=INFO,
        example=torch.zeros(2, *INFO.shape),
        log=get_logger("benchmark"),
        progress=lambda _: None,
        open_data=lambda: data,
        baseline=lambda: model,
        build=lambda *_: model,
    )
    return fit(model, context, training)


def by_hand(model: nn.Module, data: Data, training: Training) -> nn.Module:
    """Train with what one would write for this one case."""
    assert isinstance(data.train, Arrays)
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    size, shuffle = training.batch_size, torch.Generator().manual_seed(SEED)
    noise = torch.Generator().manual_seed(2**32 + SEED)
    steps = IMAGES // size
    optimizer = torch.optim.SGD(model.parameters(), training.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * EPOCHS)
    mean, std = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.25)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(IMAGES, generator=shuffle)
        for index in order.split(size):
            batch = images[index]
            dy, dx = torch.randint(0, 9, (2, size, 1), generator=noise)
            rows, columns = dy + torch.arange(32), dx + torch.arange(32)
            padded = F.pad(batch, (4, 4, 4, 4)).permute(0, 2, 3, 1)
            batch = padded[torch.arange(size).view(-1, 1, 1), rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            mirror = torch.rand(size, generator=noise) < 0.5
            batch = torch.where(mirror.view(-1, 1, 1, 1), batch.flip(-1), batch)
            inputs = ((batch.float() / 255 - mean) / std).contiguous()
            loss = F.cross_entropy(model(inputs), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def seconds(train: Any, *arguments: Any) -> tuple[float, nn.Module]:
    """How long one training took, and what it gave."""
    began = time.perf_counter()
    model = train(copy.deepcopy(arguments[0]), *arguments[1:])
    return time.perf_counter() - began, model


def main() -> None:
    """Alternate both ways and write the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = (make_network(), make_data(), Training(lr=0.1))
    seconds(with_fit, *work)
    ours, theirs = [], []
    for round_ in range(options.rounds):
        # Whoever goes first in a round goes second in the next, so that drift hits both alike.
        for train, times in ((with_fit, ours), (by_hand, theirs))[:: 1 if round_ % 2 else -1]:
            took, model = seconds(train, *work)
            times.append(took)
            state = model.state_dict()
            if train is with_fit:
                first = state
            else:
                second = state
        worst = max(float((first[name].float() - second[name].float()).abs().max()) for name in first)
        assert worst < 1e-4, f"the two loops do not do the same work: weights differ by {worst}"
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    numbers = {
        "images_per_second": EPOCHS * IMAGES / float(np.median(ours)),
        "fit_seconds": summary(ours),
        "by_hand_seconds": summary(theirs),
        "ratio": summary(ratios),
        "largest_weight_difference": worst,
    }
    print(f"ratio {numbers['ratio']['median']:.3f} {numbers['ratio']['interval_95']}")
    write_result("fit", numbers, threads=options.threads, seeds=[SEED])


if __name__ == "__main__":
    main()
