"""Float weights are packed into less than any general compressor needs, and come back bit for bit."""

from __future__ import annotations

import hashlib
import lzma
import zlib
from contextlib import suppress

import numpy as np
import onnx
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from pack_kit import MEGABYTES, about, forged

from pqd_pack import floats
from pqd_pack.account import FLOAT_WEIGHTS, account
from pqd_pack.container import unseal
from pqd_pack.damage import Damaged, TooLarge
from pqd_pack.packing import pack, unpack
from pqd_pack.regions import FLOATS, ITEM_BYTES
from pqd_pack.weights import Turns

SHAPE = (24, 16, 3, 3)
SHAPES = arrays.array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=5)
BITS = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 0x80000000, 0x8000, 1 << 63, 0x7F800000, 0xFFC00001])
)


def trained(*shape: int, sparsity: float = 0.7, seed: int = 0, signed: bool = False) -> np.ndarray:
    """Weights of which so many are pruned; `signed` zeros are what a product with a mask leaves."""
    weight = np.random.default_rng(seed).normal(size=shape, scale=0.05).astype(np.float32)
    kept = abs(weight) >= np.quantile(abs(weight), sparsity)
    pruned: np.ndarray = weight * kept if signed else np.where(kept, weight, np.float32(0))
    return pruned


def file_of(*layers: np.ndarray) -> bytes:
    """An ONNX file with these float weights."""
    tensors = [numpy_helper.from_array(layer, f"layer{index}.weight") for index, layer in enumerate(layers)]
    nodes = [helper.make_node("Identity", [tensor.name], [f"{tensor.name}.out"]) for tensor in tensors]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "network", [], [output], tensors)
    return helper.make_model(graph).SerializeToString(deterministic=True)


def smallest_of_others(data: bytes) -> int:
    every = zlib.compress(data, 9), lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    return min(map(len, (*every, zstandard.ZstdCompressor(level=19).compress(data))))


def there_and_back(data: bytes, dtype: str, shape: tuple[int, ...]) -> bytes:
    name, packed = floats.shrink(data, dtype, shape, Turns(len(data)))
    return floats.expand(name, packed, dtype, shape, Turns(len(data))).tobytes()


@pytest.mark.parametrize("dtype", sorted(FLOATS))
@given(bits=st.one_of(arrays.arrays(np.uint64, SHAPES, elements=BITS), arrays.arrays(np.uint64, SHAPES)))
@settings(max_examples=40, deadline=None)
def test_any_float_comes_back_not_a_number_and_negative_zero_as_well(dtype: str, bits: np.ndarray) -> None:
    data = bits.astype(f"<u{ITEM_BYTES[dtype]}").tobytes()
    assert there_and_back(data, dtype, bits.shape) == data


LAYERS = {
    "dense": (trained(64, 32, 3, 3, sparsity=0), 0.95),
    "pruned": (trained(64, 32, 3, 3), 0.85),
    "pruned by a product": (trained(64, 32, 3, 3, signed=True), 0.9),
    "nearly empty": (trained(64, 32, 3, 3, sparsity=0.98), 0.95),
    "few values": (np.random.default_rng(0).choice(trained(8, sparsity=0), (64, 288)), 1.02),
    "zeros": (np.zeros((64, 288), np.float32), 1),
    "in double precision": (trained(64, 32, 3, 3).astype(np.float64), 0.95),
    "in half precision": (trained(64, 32, 3, 3).astype(np.float16), 0.9),
}


@pytest.mark.parametrize(("weight", "share"), LAYERS.values(), ids=LAYERS)
def test_a_file_of_float_weights_takes_less_than_with_any_other_compressor(weight: np.ndarray, share: float) -> None:
    files = {"model.onnx": file_of(weight)}
    packed = pack(files)
    assert len(packed) < share * smallest_of_others(files["model.onnx"]) + 250  # header and checksums
    assert unpack(packed, MEGABYTES) == files


def test_pruned_weights_take_little_more_than_their_mask_and_the_bits_of_the_others() -> None:
    weight = trained(128, 64, 3, 3)
    share = float((weight != 0).mean())
    mask = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    _, packed = floats.shrink(weight.tobytes(), "f32", weight.shape, Turns(weight.nbytes))
    assert 8 * len(packed) / weight.size < mask + share * (24 + 2)  # sign and mantissa, and two bits of exponent


def test_few_values_beyond_the_sample_are_found_by_the_sample() -> None:
    weight = np.random.default_rng(0).choice(trained(8, sparsity=0), (512, 300))
    name, packed = floats.shrink(weight.tobytes(), "f32", weight.shape, Turns(weight.nbytes))
    assert name != floats.NAME
    assert len(packed) < 0.8 * len(zlib.compress(weight.tobytes(), 9))


def test_float_weights_have_a_line_of_their_own_but_scales_with_many_dimensions_have_not() -> None:
    weight, scale = trained(*SHAPE), trained(64, 1, 1, 1, sparsity=0)
    found = account(pack({"model.onnx": file_of(weight, scale)}), MEGABYTES)
    assert [(part.tensors, part.size) for part in found.parts if part.kind == FLOAT_WEIGHTS] == [(1, weight.nbytes)]


def test_weights_that_stand_as_a_list_of_floats_are_found() -> None:
    weight = trained(*SHAPE)
    model = onnx.load_model_from_string(file_of(weight))
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend(weight.reshape(-1).tolist())
    files = {"model.onnx": model.SerializeToString()}
    packed = pack(files)
    assert [part.tensors for part in account(packed, MEGABYTES).parts if part.kind == FLOAT_WEIGHTS] == [1]
    assert unpack(packed, MEGABYTES) == files


PACKED = floats.shrink(trained(*SHAPE).tobytes(), "f32", SHAPE, Turns(2**20))[1]


@given(st.integers(0, len(PACKED) - 1), st.integers(0, 255), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_changed_and_missing_bytes_end_in_damage_or_in_another_weight(place: int, value: int, cut: int) -> None:
    data = PACKED[:place] + bytes([value]) + PACKED[place + 1 : len(PACKED) - cut]
    with suppress(Damaged, TooLarge):
        assert floats.expand(floats.NAME, data, "f32", SHAPE, Turns(2**20)).shape == (4 * 24 * 16 * 9,)


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_noise_in_place_of_a_weight_is_refused_or_some_weight(noise: bytes) -> None:
    for name in (floats.NAME, "zstd", "lzma", "range", "rows"):
        with suppress(Damaged, TooLarge):
            assert floats.expand(name, noise, "f16", (3, 5), Turns(100)).shape == (30,)


FORGED = {
    "no piece": (b"", "ends within a piece"),
    "a codec of kinds that there is not": (floats.PIECE.pack(2, 0) + 4 * floats.PIECE.pack(0, 0), "codec 2"),
    "more than its pieces": (floats.PIECE.pack(0, 0) + 4 * floats.PIECE.pack(0, 0) + b"more", "do not agree"),
    "a piece longer than all": (floats.PIECE.pack(0, 0) + 4 * floats.PIECE.pack(0, 2**31), "in place of 0"),
}


@pytest.mark.parametrize(("stream", "reason"), FORGED.values(), ids=FORGED)
def test_a_forged_weight_is_refused_with_its_reason(stream: bytes, reason: str) -> None:
    header = {
        "files": [about(size=36, tensors=[[0, "f32", [3, 3]]])],
        "streams": [["stored", 0], ["floats", len(stream)]],
    }
    with pytest.raises(Damaged, match=reason):
        unpack(forged(header, stream, version=2), MEGABYTES)


def test_shapes_that_are_made_to_take_hours_are_refused() -> None:
    stream = floats.PIECE.pack(1, 12) + b"\x01" * 12 + 2 * floats.PIECE.pack(0, 0)
    with pytest.raises(TooLarge, match="would take hours"):
        floats.expand(floats.NAME, stream, "f16", (2**19, 2), Turns(2**20))


def test_a_file_of_version_1_has_a_stream_for_each_byte_of_its_floats() -> None:
    tensors = [[0, "f32", [3, 3]]]
    zeros = b"\0" * 36
    header = {
        "files": [about(size=36, tensors=tensors) | {"sha256": hashlib.sha256(zeros).hexdigest()}],
        "streams": [["stored", 0], *[["stored", 9]] * 4],
    }
    assert unpack(forged(header, zeros, version=1), MEGABYTES) == {"model.onnx": zeros}
    with pytest.raises(Damaged, match="streams that its files do not have"):
        unpack(forged(header, zeros, version=2), MEGABYTES)


def test_what_is_written_is_of_version_2() -> None:
    assert unseal(pack({"model.onnx": file_of(trained(*SHAPE))}), MEGABYTES).version == 2
