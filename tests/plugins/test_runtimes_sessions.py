"""A session runs on the threads it was given, at the batch size it was given, and keeps nothing back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_kit import FORMS, NAMES, Shelf, images, reference, the_shelf


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


def threads_running() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_onnx_runtime_starts_no_more_threads_than_asked(shelf: Shelf, threads: int) -> None:
    shelf.session("int8", "onnxruntime", threads=threads).close()  # what making the file starts stays
    before = threads_running()
    session = shelf.session("int8", "onnxruntime", threads=threads)
    session(images(4).numpy())
    assert threads_running() - before == threads - 1  # the caller is one of them
    session.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_runs_on_the_threads_asked(shelf: Shelf, threads: int) -> None:
    compiled = shelf.session("int8", "openvino", threads=threads).compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1


def test_each_torch_session_runs_on_its_own_number_of_threads(shelf: Shelf) -> None:
    seen = []
    one, two = (shelf.session("float", "torch", threads=threads) for threads in (1, 2))
    for session in (one, two, one):
        session(images(2).numpy())
        seen.append(torch.get_num_threads())
    assert seen == [1, 2, 1]


def test_openvino_computes_floats_in_the_precision_asked(shelf: Shelf) -> None:
    compiled = shelf.session("float", "openvino").compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.parametrize("runtime", NAMES)
def test_a_fixed_batch_gives_the_same_logits(shelf: Shelf, runtime: str) -> None:
    batch = images(3).numpy()
    free, fixed = (shelf.session("int8", runtime, batch=size)(batch) for size in (None, 3))
    np.testing.assert_allclose(free, fixed, atol=1e-5)


def test_openvino_knows_every_size_of_a_fixed_batch(shelf: Shelf) -> None:
    assert shelf.session("int8", "openvino").compiled.input(0).partial_shape.is_dynamic
    assert shelf.session("int8", "openvino", batch=3).compiled.input(0).partial_shape[0] == 3


@pytest.mark.parametrize("runtime", NAMES)
def test_the_next_call_leaves_earlier_logits_alone(shelf: Shelf, runtime: str) -> None:
    session = shelf.session("float", runtime, batch=2)
    first = session(images(2, seed=1).numpy())
    kept = first.copy()
    session(images(2, seed=2).numpy())
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("runtime", NAMES)
def test_images_may_lie_in_memory_in_any_order(shelf: Shelf, runtime: str) -> None:
    strided = np.asfortranarray(images(3).numpy())
    expected = reference(shelf.model("float"), images(3))
    np.testing.assert_allclose(shelf.session("float", runtime)(strided), expected, atol=1e-5)


def test_a_closed_session_has_given_its_threads_back(shelf: Shelf) -> None:
    before = threads_running()
    session = shelf.session("float", "onnxruntime", threads=3)
    assert threads_running() > before
    session.close()
    assert threads_running() == before


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_compiled_program_agrees_with_torch_at_any_batch_size(shelf: Shelf, form: str) -> None:
    session = shelf.session(form, "torch", mode="compiled")
    for size in (1, 7):
        expected = reference(shelf.model(form), images(size))
        assert np.abs(session(images(size).numpy()) - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.slow
def test_the_compiled_int8_program_runs_on_int8_operators(shelf: Shelf) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    torch._dynamo.reset()
    shelf.session("int8", "torch", mode="compiled", batch=1)
    assert counters["inductor"]["qconv_weight_prepack_matcher_count"] >= 4
