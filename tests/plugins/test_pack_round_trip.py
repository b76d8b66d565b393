"""What is packed comes back bit for bit, and INT8 weights take about their entropy."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from measure_kit import context_of, deployed, some_data
from onnx import helper, numpy_helper
from pack_kit import MEGABYTES, onnx_file, openvino_files, pt2_file, sparse_weight

from pqd_core import Settings
from pqd_pack import codecs, weights
from pqd_pack.account import WEIGHTS, account, entropy_bits, frequencies, weights_in
from pqd_pack.packing import pack, unpack
from pqd_pack.size import measure
from pqd_runtimes.onnx_bytes import serialized

SHAPES = arrays.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=9)
VALUES = st.one_of(st.integers(-128, 127), st.sampled_from([-128, -1, 0, 1, 127]), st.just(0))


def few_valued() -> st.SearchStrategy[np.ndarray]:
    few = st.lists(VALUES, min_size=1, max_size=3)
    return few.flatmap(lambda some: arrays.arrays(np.int8, SHAPES, elements=st.sampled_from(some)))


def shrunk(values: np.ndarray) -> tuple[str, bytes]:
    return weights.shrink(values.tobytes(), values.shape, weights.Turns(values.nbytes))


@pytest.mark.parametrize("codec", weights.CODECS)
@given(values=st.one_of(arrays.arrays(np.int8, SHAPES, elements=VALUES), few_valued()))
@settings(max_examples=40, deadline=None)
def test_every_codec_gives_any_weight_back(codec: str, values: np.ndarray) -> None:
    data = weights.CODECS[codec].shrink(values)
    assert np.array_equal(weights.CODECS[codec].expand(data, values.shape).reshape(values.shape), values)


@pytest.mark.parametrize("codec", weights.CODECS)
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((64, 9, 3, 3), np.int8),
        np.full((300, 50), -128, np.int8),
        np.full((1, 1), 127, np.int8),
        np.zeros((3, 0), np.int8),
        np.arange(256, dtype=np.uint8).view(np.int8).reshape(1, 256),
        np.random.default_rng(0).integers(-128, 128, (70, 1000), np.int8),
        np.random.default_rng(0).integers(-1, 2, (40, 30, 3), np.int8),
        np.eye(64, dtype=np.int8),
        sparse_weight(64, 32, 3, 3),
        sparse_weight(7, 5000),
        sparse_weight(1500, 7),
    ],
    ids=["zeros", "constant", "one", "empty", "bytes", "noise", "few", "unit", "kernels", "wide", "tall"],
)
def test_every_codec_gives_the_odd_ones_back(codec: str, values: np.ndarray) -> None:
    data = weights.CODECS[codec].shrink(values)
    assert np.array_equal(weights.CODECS[codec].expand(data, values.shape).reshape(values.shape), values)
    assert len(data) < 1.02 * values.nbytes + 300


@pytest.mark.parametrize("name", codecs.CODECS)
@given(data=st.one_of(st.binary(max_size=300), st.builds(bytes.__mul__, st.binary(max_size=9), st.integers(0, 999))))
@settings(max_examples=40, deadline=None)
def test_every_codec_gives_any_bytes_back(name: str, data: bytes) -> None:
    assert codecs.expand(name, codecs.CODECS[name].shrink(data), len(data)) == data


FILES = {
    "onnx": {"model.onnx": onnx_file(sparse_weight(16, 8, 3, 3), sparse_weight(10, 64))},
    "onnx with twins": {"model.onnx": onnx_file(sparse_weight(8, 8), sparse_weight(8, 8))},
    "openvino": openvino_files(sparse_weight(16, 8, 3, 3), sparse_weight(10, 64)),
    "torch": {"model.pt2": pt2_file(sparse_weight(16, 8, 3, 3), sparse_weight(10, 64))},
    "weights without their graph": {"model.bin": b"\x01\x02" * 500},
    "a cut onnx file": {"model.onnx": onnx_file(sparse_weight(16, 8, 3, 3))[:-100]},
    "text": {"notes.txt": b"nothing to be understood here " * 20},
    "nothing": {"empty": b""},
    "one byte": {"one": b"\xff"},
    "an xml that lies": {"model.xml": b"<net", "model.bin": b"\0" * 64},
}


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_files_come_back_bit_for_bit(files: dict[str, bytes]) -> None:
    assert unpack(pack(files), MEGABYTES) == files


@given(st.dictionaries(st.sampled_from(["a.onnx", "b.bin", "b.xml", "c"]), st.binary(max_size=200), min_size=1))
@settings(max_examples=40, deadline=None)
def test_any_bytes_come_back_whatever_they_are_called(files: dict[str, bytes]) -> None:
    assert unpack(pack(files), MEGABYTES) == files


def test_weights_of_a_torch_file_are_coded_as_weights() -> None:
    found = account(pack(FILES["torch"]), MEGABYTES)
    assert [part.size for part in found.parts if part.kind == WEIGHTS] == [16 * 8 * 9 + 10 * 64]


def test_weights_ahead_of_nodes_are_coded_as_weights_and_so_are_constants_in_nodes() -> None:
    """Fields of an ONNX file may come in any order."""
    model = onnx.load_model_from_string(onnx_file(sparse_weight(16, 8, 3, 3)))
    constant = numpy_helper.from_array(sparse_weight(10, 64))
    model.graph.node.append(helper.make_node("Constant", [], ["constant"], value=constant))
    for data in (serialized(model), model.SerializeToString()):
        packed = pack({"model.onnx": data})
        sizes = [part.size for part in account(packed, MEGABYTES).parts if part.kind == WEIGHTS]
        assert sizes == [16 * 8 * 9 + 10 * 64]
        assert unpack(packed, MEGABYTES) == {"model.onnx": data}


def test_weights_of_a_safetensors_file_are_coded_as_weights() -> None:
    weight = sparse_weight(64, 64)
    told = json.dumps({"w": {"dtype": "I8", "shape": [64, 64], "data_offsets": [0, 4096]}}).encode()
    files = {"model.safetensors": struct.pack("<Q", len(told)) + told + weight.tobytes()}
    packed = pack(files)
    assert [part.size for part in account(packed, MEGABYTES).parts if part.kind == WEIGHTS] == [4096]
    assert unpack(packed, MEGABYTES) == files


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_file_takes_little_more_than_the_entropy_of_its_weights(kind: str) -> None:
    layers = [sparse_weight(128, 64, 3, 3, seed=seed) for seed in range(3)]
    files = {"model.onnx": onnx_file(*layers)} if kind == "onnx" else openvino_files(*layers)
    found = account(pack(files), MEGABYTES)
    counts = sum(frequencies(weight) for weight in weights_in(files))
    assert int(np.sum(counts)) == 3 * layers[0].size
    assert found.packed < 1.03 * entropy_bits(np.asarray(counts)) / 8


def test_channels_inputs_kernels_and_signs_that_hang_together_take_less_than_their_entropy() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(4, 30, (96, 1, 1)) * rng.uniform(0.3, 1, (1, 48, 1)) * np.linspace(0.4, 1, 9)
    smooth = np.cumsum(rng.normal(size=(96, 48, 9)), axis=2)
    values = smooth / np.sqrt(np.arange(1, 10)) * spread
    values[abs(values) < np.quantile(abs(values), 0.7)] = 0
    weight = values.round().clip(-127, 127).astype(np.int8).reshape(96, 48, 3, 3)
    codec, data = shrunk(weight)
    assert codec == "rows"
    assert 8 * len(data) < 0.85 * entropy_bits(frequencies(weight))


def test_a_hole_that_pruning_left_is_found_in_every_channel_whatever_its_step() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(128, 32, 3, 3))
    values[abs(values) < 1] = 0
    step = rng.uniform(0.03, 0.15, (128, 1, 1, 1))
    weight = (values / step).round().clip(-127, 127).astype(np.int8)
    codec, data = shrunk(weight)
    assert codec == "rows"
    assert 8 * len(data) < 0.93 * entropy_bits(frequencies(weight))


def test_numbers_without_structure_take_hardly_more_than_their_entropy() -> None:
    weight = np.random.default_rng(0).choice(np.array([-3, 0, 0, 0, 5], np.int8), (64, 64, 3, 3))
    assert 8 * len(shrunk(weight)[1]) < 1.01 * entropy_bits(frequencies(weight))


def test_a_weight_of_very_many_channels_is_coded_in_few_turns() -> None:
    tall = np.zeros((2**19, 2), np.int8)
    tall[::3] = 7
    codec, data = shrunk(tall)
    assert codec == "range"
    assert np.array_equal(weights.expand(codec, data, tall.shape, weights.Turns(0)), tall.view(np.uint8).reshape(-1))


def test_the_same_files_are_packed_into_the_same_bytes() -> None:
    assert pack(FILES["onnx"]) == pack(FILES["onnx"])


def test_the_parts_of_an_account_make_up_the_file() -> None:
    packed = pack(FILES["openvino"])
    found = account(packed, MEGABYTES)
    assert sum(part.packed for part in found.parts) == len(packed)
    assert sum(part.size for part in found.parts) == sum(map(len, FILES["openvino"].values()))


def test_packed_size_is_that_of_all_parts_of_a_deployment_and_falls_with_sparsity(tmp_path: Path) -> None:
    dense = np.random.default_rng(0).integers(-127, 128, (64, 64), np.int8)
    sizes = []
    for name, weight in (("dense", dense), ("sparse", np.where(abs(dense) > 90, dense, 0).astype(np.int8))):
        candidate = deployed(tmp_path, name)
        candidate.file.unlink()
        for part, content in openvino_files(weight).items():
            (candidate.folder / part).write_bytes(content)
        [[number]] = measure([candidate], Settings(), context_of(some_data(), tmp_path))
        assert number.metric == "size_packed_bytes"
        assert number.value == sum(number.provenance["parts"].values())
        sizes.append(number.value)
    assert sizes[1] < 0.6 * sizes[0]


def test_a_deployment_without_files_has_no_packed_size(tmp_path: Path) -> None:
    candidate = deployed(tmp_path, "none")
    candidate.file.unlink()
    [[number]] = measure([candidate], Settings(), context_of(some_data(), tmp_path))
    assert number.value is None
    assert "no deployed file" in (number.missing or "")
