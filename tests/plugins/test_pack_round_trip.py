"""What is packed comes back bit for bit, and INT8 weights take about their entropy."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from measure_kit import context_of, deployed, some_data
from pack_kit import MEGABYTES, onnx_file, openvino_files, sparse_weight

from pqd_core import Settings
from pqd_pack import codecs, weights
from pqd_pack.account import WEIGHTS, account, entropy_bits, frequencies, weights_in
from pqd_pack.packing import pack, unpack
from pqd_pack.size import measure

SHAPES = arrays.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=9)
VALUES = st.one_of(st.integers(-128, 127), st.sampled_from([-128, 0, 127]), st.just(0))
GOLDEN = Path(__file__).parent / "golden.pqdz"


@pytest.mark.parametrize("codec", weights.CODECS)
@given(values=arrays.arrays(np.int8, SHAPES, elements=VALUES))
@settings(max_examples=60, deadline=None)
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
        sparse_weight(64, 32, 3, 3),
        sparse_weight(7, 5000),
        sparse_weight(5000, 7),
    ],
    ids=["zeros", "constant", "one", "empty", "all values", "noise", "kernels", "wide", "tall"],
)
def test_every_codec_gives_the_odd_ones_back(codec: str, values: np.ndarray) -> None:
    data = weights.CODECS[codec].shrink(values)
    assert np.array_equal(weights.CODECS[codec].expand(data, values.shape).reshape(values.shape), values)
    assert len(data) < 1.02 * values.nbytes + 300


@pytest.mark.parametrize("name", codecs.CODECS)
@given(data=st.one_of(st.binary(max_size=300), st.builds(bytes.__mul__, st.binary(max_size=9), st.integers(0, 999))))
@settings(max_examples=60, deadline=None)
def test_every_codec_gives_any_bytes_back(name: str, data: bytes) -> None:
    assert codecs.expand(name, codecs.CODECS[name].shrink(data), len(data)) == data


FILES = {
    "onnx": {"model.onnx": onnx_file(sparse_weight(16, 8, 3, 3), sparse_weight(10, 64))},
    "onnx with twins": {"model.onnx": onnx_file(sparse_weight(8, 8), sparse_weight(8, 8))},
    "openvino": openvino_files(sparse_weight(16, 8, 3, 3), sparse_weight(10, 64)),
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
