"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, the smallest real dataset at hand."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from pqd_core import Arrays, Augmentation, Data, DataInfo, stratified_subset
from pqd_vision.arrays import limited, pixel_statistics
from pqd_vision.settings import Digits

TRAIN_SHARE = 0.8
MAX_VALUE = 16


def open_data(settings: Digits) -> Data:
    """A fixed stratified four fifths to train on, the rest to test; mirrored digits are no digits, so no flip."""
    digits = load_digits()
    whole = Arrays(enlarged(digits.images, settings.size), digits.target.astype(np.int64))
    chosen = stratified_subset(whole.labels, round(TRAIN_SHARE * len(whole)))
    train, test = whole.take(chosen), whole.take(np.setdiff1d(np.arange(len(whole)), chosen))
    mean, std = pixel_statistics(train.images)
    info = DataInfo(
        "digits",
        train.images.shape[1:],
        num_classes=10,
        mean=mean,
        std=std,
        augmentation=Augmentation(padding=1, flip=False),
        classes=tuple(map(str, range(10))),
    )
    return Data(
        info,
        limited(train, settings.limit, "dataset.digits.limit"),
        limited(test, settings.limit_test, "dataset.digits.limit_test"),
    )


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Images (N, 8, 8) of 0 to 16 as uint8 (N, 1, size, size), interpolated bilinearly."""
    pixels = torch.from_numpy(images).float()[:, None]
    # Interpolated before they are scaled: at 16 and 32 pixels every value is then exact in binary.
    pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return (pixels * 255 / MAX_VALUE).round().to(torch.uint8).numpy()
