"""What images a file takes is read from the file, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from runtime_kit import NAMES, RECORDS, SHAPE, Shelf, implementation, settings_of, the_shelf

from pqd_core import DeployError


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return the_shelf(tmp_path_factory)


@pytest.mark.parametrize("runtime", NAMES)
@pytest.mark.parametrize("form", ["float", "int8"])
def test_a_deployed_file_tells_the_shape_of_its_images(shelf: Shelf, form: str, runtime: str) -> None:
    file = shelf.file(form, runtime)
    assert implementation(runtime).input_shape(file, settings_of(runtime)) == (None, *SHAPE)
    assert next(iter(RECORDS[runtime].opens)) == file.suffix


def foreign(where: Path, inputs: dict[str, list[int | str]], kind: int = TensorProto.FLOAT) -> Path:
    """A network of somebody else: the mean of each image's pixels, its batch called `N`."""
    mean = helper.make_node("ReduceMean", [next(iter(inputs))], ["y"], axes=[1, 2, 3], keepdims=0)
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    graph = helper.make_graph([mean], "g", values, [helper.make_tensor_value_info("y", kind, ["M"])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), where / "f.onnx")
    return where / "f.onnx"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_both_open_a_foreign_onnx_file_at_a_fixed_batch(tmp_path: Path, runtime: str) -> None:
    file, settings = foreign(tmp_path, {"x": ["N", 3, "h", 5]}), settings_of(runtime)
    assert implementation(runtime).input_shape(file, settings) == (None, 3, None, 5)
    session = implementation(runtime).open_session(file, 1, settings, batch=2)
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(session(images), images.mean((1, 2, 3)), atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_that_takes_something_else_than_one_batch_of_floats_is_refused(tmp_path: Path, runtime: str) -> None:
    two = foreign(tmp_path, {"x": [1, 3, 4, 5], "z": [1]})
    with pytest.raises(DeployError, match="it has 2 inputs; a network must map one batch of images"):
        implementation(runtime).input_shape(two, settings_of(runtime))
    doubles = foreign(tmp_path, {"x": [1, 3, 4, 5]}, TensorProto.DOUBLE)
    with pytest.raises(DeployError, match="it does not take float32"):
        implementation(runtime).input_shape(doubles, settings_of(runtime))
