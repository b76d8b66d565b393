from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_data import INFO, Mapped, arrays

from pqd_core import Arrays, Augmentation, Data, DataError, Problem, Training
from pqd_core.batches import TrainBatches, augment, eval_batches, normalize


def batches(split: Any, training: Training | None = None, seed: int = 0, rank: int = 0, ranks: int = 1) -> TrainBatches:
    context: Any = SimpleNamespace(
        info=INFO, device=torch.device("cpu"), seed=seed, data=Data(INFO, split, arrays(9)), epochs=1
    )
    accelerator: Any = SimpleNamespace(process_index=rank, num_processes=ranks)
    return TrainBatches(context, training or Training(batch_size=8, augment=False, workers=0), accelerator)


def shown(found: TrainBatches) -> list[list[int]]:
    """Which images each batch of one epoch of `Mapped` holds."""
    return [[int(image.max()) for image in batch.inputs] for batch in found]


def test_pixels_are_scaled_and_normalized_by_channel() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    info = type(INFO)("d", (3, 1, 1), 2, (0.0, 0.5, 0.1), (1.0, 0.5, 0.2))
    assert torch.allclose(normalize(images, info).flatten(), torch.tensor([0.0, 1.0, 0.5]))


def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs() -> None:
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4)
    padded = torch.nn.functional.pad(image, (1,) * 4)[0, 0]
    windows = {bytes(padded[y : y + 4, x : x + 4].contiguous().numpy()) for y in range(3) for x in range(3)}
    cropped = augment(image.expand(400, 1, 4, 4), Augmentation(1, flip=False), torch.Generator().manual_seed(0))
    assert {bytes(crop[0].contiguous().numpy()) for crop in cropped} == windows
    assert cropped.dtype == torch.uint8


def test_about_half_of_the_images_are_mirrored_each_on_its_own() -> None:
    image = torch.tensor([[1, 2]], dtype=torch.uint8).view(1, 1, 1, 2)
    flipped = augment(image.expand(1000, 1, 1, 2), Augmentation(0, flip=True), torch.Generator().manual_seed(0))
    mirrored = int((flipped[:, 0, 0, 0] == 2).sum())
    assert 420 < mirrored < 580
    assert set(flipped.view(-1, 2).sum(1).tolist()) == {3}


def test_an_epoch_shows_each_image_once_and_the_next_one_in_another_order() -> None:
    found = batches(Mapped(32))
    first, second = shown(found), shown(found)
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index in batch) == list(range(32))
    assert first != second
    assert first == shown(batches(Mapped(32)))
    assert first != shown(batches(Mapped(32), seed=1))


def test_an_incomplete_batch_is_dropped_unless_it_is_the_only_one() -> None:
    assert [len(batch) for batch in batches(arrays(30))] == [8, 8, 8]
    assert len(batches(arrays(30))) == 3
    assert [len(batch) for batch in batches(arrays(5))] == [5]


def test_images_in_memory_and_images_by_index_come_in_the_same_order() -> None:
    pixels = np.repeat(np.arange(32, dtype=np.uint8), 64).reshape(32, 1, 8, 8)
    held = batches(Arrays(pixels, np.arange(32, dtype=np.int64) % 3))
    mapped = batches(Mapped(32))
    for _ in range(2):
        means = [[round(float(image.mean() * 0.25 + 0.5) * 255) for image in batch.inputs] for batch in held]
        assert means == shown(mapped)


def test_the_order_depends_on_the_seed_alone_and_not_on_the_augmentation() -> None:
    orders = []
    for augmenting in (True, False):
        found = batches(arrays(32), Training(batch_size=8, augment=augmenting))
        orders.append([[batch.targets.tolist() for batch in found] for _ in range(3)])
    assert orders[0] == orders[1]


def test_labels_stay_with_their_images() -> None:
    for batch in batches(Mapped(32)):
        assert (batch.inputs.amax((1, 2, 3)).long() % 3 == batch.targets).all()


def test_any_number_of_workers_gives_the_same_batches() -> None:
    training = Training(batch_size=8, augment=False, workers=2)
    assert shown(batches(Mapped(32), training)) == shown(batches(Mapped(32)))


def test_several_processes_share_each_batch_without_overlap() -> None:
    parts = [shown(batches(Mapped(32), rank=rank, ranks=2)) for rank in range(2)]
    whole = shown(batches(Mapped(32)))
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_augmentation_is_the_datasets_and_can_be_switched_off() -> None:
    plain = normalize(torch.from_numpy(arrays(32).images), INFO)
    on, off = (batches(arrays(32), Training(batch_size=32, augment=a)) for a in (True, False))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(next(iter(off)).inputs, plain[order])
    assert not torch.equal(next(iter(on)).inputs, plain[order])


class Broken(Mapped):
    def __getitem__(self, index: int, /) -> tuple[torch.Tensor, int]:
        if index == 7:
            raise DataError(Problem("picture 7", "cannot be read", "delete it"))
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_told_as_its_dataset_tells_it(workers: int) -> None:
    with pytest.raises(DataError) as error:
        list(batches(Broken(32), Training(batch_size=8, workers=workers)))
    assert error.value.problems == (Problem("picture 7", "cannot be read", "delete it"),)


@pytest.mark.parametrize("split", [arrays(30), Mapped(30)])
def test_measuring_sees_all_images_in_order_and_unaugmented(split: Any) -> None:
    found = list(eval_batches(split, INFO, 8))
    assert [len(batch) for batch in found] == [8, 8, 8, 6]
    assert torch.cat([batch.targets for batch in found]).tolist() == [i % 3 for i in range(30)]
    again = torch.cat([batch.inputs for batch in eval_batches(split, INFO, 30)])
    assert torch.equal(torch.cat([batch.inputs for batch in found]), again)
    assert again.dtype == torch.float32


@pytest.mark.parametrize(("limit", "sizes"), [(0, []), (5, [5]), (8, [8]), (20, [8, 8, 4]), (99, [8, 8, 8, 6])])
def test_measuring_can_be_limited(limit: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in eval_batches(arrays(30), INFO, 8, limit)] == sizes
