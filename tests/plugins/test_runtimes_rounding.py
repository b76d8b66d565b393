"""OpenVINO rounds what a convolution adds to a residual, as the network was trained to bear."""

from __future__ import annotations

from pathlib import Path

import openvino
import pytest
from runtime_kit import Shelf, images, reference, the_shelf


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


def kept(file: Path) -> list[str]:
    model = openvino.Core().read_model(file)
    return [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == "PRelu"]


def test_only_a_convolution_that_is_added_to_a_residual_is_kept_from_skipping_it(shelf: Shelf) -> None:
    assert len(kept(shelf.file("int8", "openvino"))) == 1
    assert kept(shelf.file("float", "openvino")) == []


def test_the_file_rounds_where_its_model_does(shelf: Shelf) -> None:
    batch = images(64)
    session = shelf.session("int8", "openvino")
    difference = abs(session(batch.numpy()) - reference(shelf.model("int8"), batch))
    session.close()
    # One skipped rounding in the block changes almost every output; sums between two grid points change a few.
    assert (difference > 1e-4).mean() < 0.2
