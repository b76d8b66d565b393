"""Batches out of a dataset: augmented for training, in order for measuring, always normalized float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from pqd_core.data import Arrays, Augmentation, DataInfo, Split, unaugmented
from pqd_core.host.errors import PqdError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pqd_core.spec import Training
    from pqd_core.stage import StageContext


@frozen(eq=False)
class Batch:
    """Normalized images (N, C, H, W) float32 and their labels, int64 (N,) or float32 (N, outputs), on one device."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


def normalize(images: Tensor, info: DataInfo) -> Tensor:
    """uint8 images (N, C, H, W) as the float32 that networks see."""
    mean = torch.tensor(info.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(info.std, device=images.device).view(1, -1, 1, 1)
    return images.float().div_(255).sub_(mean).div_(std)


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Each image cropped at random from its zero-padded self and mirrored half the time (He et al. 2015, 4.2)."""
    n, _, height, width = images.shape
    if how.padding:
        offsets = torch.randint(0, 2 * how.padding + 1, (2, n, 1), generator=generator).to(images.device)
        rows = offsets[0] + torch.arange(height, device=images.device)
        columns = offsets[1] + torch.arange(width, device=images.device)
        padded = F.pad(images, (how.padding,) * 4).permute(0, 2, 3, 1)
        which = torch.arange(n, device=images.device).view(-1, 1, 1)
        images = padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if how.flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    return images


class TrainBatches:
    """One epoch of shuffled batches each time it is iterated; the same seed gives the same batches.

    The order depends on the seed alone, not on the stage, so that pipelines of one seed are paired. The last
    incomplete batch is dropped unless it is the only one: batch norm cannot train on a single image.
    """

    def __init__(self, context: StageContext, training: Training, accelerator: Accelerator) -> None:
        self.info, self.device, self.training = context.info, context.device, training
        self.order = torch.Generator().manual_seed(context.seed)
        self.noise = torch.Generator().manual_seed(2**32 + context.seed)  # apart, so that it does not move the order
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes
        self.split = context.data.train if training.augment else unaugmented(context.data.train)
        self.size = min(training.batch_size, len(self.split))
        self.memory_format = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        self.how = context.info.augmentation if training.augment else Augmentation(padding=0, flip=False)
        self._arrays = to_device(self.split, self.device) if isinstance(self.split, Arrays) else None

    def __len__(self) -> int:
        return len(self.split) // self.size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.split), generator=self.order)[: len(self) * self.size]
        parts = [part[self.rank :: self.ranks] for part in torch.split(order, self.size)]
        return self._from_arrays(parts) if self._arrays else self._from_loader(parts)

    def _from_arrays(self, parts: list[Tensor]) -> Iterator[Batch]:
        assert self._arrays is not None
        images, labels = self._arrays
        for part in parts:
            index = part.to(self.device)
            inputs = normalize(augment(images[index], self.how, self.noise), self.info)
            yield Batch(inputs.contiguous(memory_format=self.memory_format), labels[index])

    def _from_loader(self, parts: list[Tensor]) -> Iterator[Batch]:
        loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
            _Telling(self.split),  # type: ignore[arg-type]
            batch_sampler=[part.tolist() for part in parts],
            num_workers=self.training.workers,
            generator=self.noise,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
        )
        return (_move(batch, self.device, self.memory_format) for batch in loader)


def to_device(split: Arrays, device: torch.device) -> tuple[Tensor, Tensor]:
    """All images (uint8) and labels of a split as tensors on `device`."""
    return torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device)


@frozen(eq=False)
class _Telling:
    """A split whose items may be errors: a loader's worker would make a traceback of one that is raised."""

    split: Split

    def __getitem__(self, index: int) -> Any:
        try:
            return self.split[index]  # type: ignore[index]
        except PqdError as error:
            return error


def _collate(items: list[Any]) -> Any:
    errors = (item for item in items if isinstance(item, PqdError))
    return next(errors, None) or torch.utils.data.default_collate(items)


def _move(batch: Any, device: torch.device, memory_format: torch.memory_format) -> Batch:
    if isinstance(batch, PqdError):
        raise batch
    images, labels = batch
    return Batch(
        images.to(device, non_blocking=True, memory_format=memory_format), labels.to(device, non_blocking=True)
    )


def eval_batches(split: Split, info: DataInfo, size: int, limit: int | None = None) -> Iterator[Batch]:
    """The images of `split` in order, on the CPU, unaugmented; only the first `limit` if given."""
    total = min(len(split), limit if limit is not None else len(split))
    for start in range(0, total, size):
        stop = min(total, start + size)
        if isinstance(split, Arrays):
            images = torch.from_numpy(split.images[start:stop])
            yield Batch(normalize(images, info), torch.from_numpy(split.labels[start:stop]))
        else:
            items = [split[i] for i in range(start, stop)]
            yield Batch(*torch.utils.data.default_collate(items))
