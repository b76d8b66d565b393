"""How small trained, pruned INT8 networks pack: pqd pack beside zlib, xz, zstd and DeepCABAC, on the same files.

    python benchmarks/pack.py NAME=FILE.onnx ... [--deepcabac PYTHON]

PYTHON is an interpreter with `nncodec`, Fraunhofer HHI's DeepCABAC (ISO/IEC 15938-17); it wants numpy<2, so it has an
environment of its own. Without one its column is missing. Times are CPU seconds of one thread.

A FILE of float weights (.onnx or .pth) is pruned and rounded first: 70 % of all weights by magnitude, then INT8 per
output channel, without training.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from evidence import RESULTS, write_result
from pack_weights import int8_file

from pqd_pack import weights
from pqd_pack.account import WEIGHTS, account, entropy_bits, frequencies, weights_in
from pqd_pack.packing import pack, unpack

LARGEST = 2**31
GENERAL: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "zlib -9": (lambda data: zlib.compress(data, 9), zlib.decompress),
    "zstd -19": (zstandard.ZstdCompressor(level=19).compress, zstandard.ZstdDecompressor().decompress),
    "xz -9e": (lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME), lzma.decompress),
}
DEEPCABAC = """
import sys, tempfile, time
import numpy as np
from nncodec import nn
stored = np.load(sys.argv[1])
weights = {name: stored[name].astype(np.int32) for name in stored.files}
settings = {"verbose": False, "use_dq": False, "param_opt": True, "row_skipping": True, "results": tempfile.mkdtemp()}
began = time.process_time()
stream = nn.encode(weights, settings)
made = time.process_time()
found = nn.decode(stream)
ended = time.process_time()
assert all(np.array_equal(found[name], weights[name]) for name in weights)
print("RESULT", len(stream), made - began, ended - made)
"""
HEAD = "| | bytes, whole file | of the entropy | weights alone | pack | unpack |"
COLUMNS = ("zero-order entropy", "pqd pack, plain", "pqd pack", *GENERAL, "DeepCABAC")


def measured(data: bytes, shrink: Callable[[bytes], bytes], expand: Callable[[bytes], bytes]) -> dict[str, Any]:
    """Bytes and CPU seconds of a codec that gives `data` back."""
    began = time.process_time()
    packed = shrink(data)
    made = time.process_time()
    if expand(packed) != data:
        raise AssertionError("a codec does not give its input back")
    return {"bytes": len(packed), "pack_s": made - began, "unpack_s": time.process_time() - made}


def packed(data: bytes, codecs: list[str]) -> dict[str, Any]:
    """The same for pqd pack with these codecs of weights, and what the weights alone take."""
    every, name, kept = dict(weights.CODECS), "model.onnx", list[bytes]()

    def shrink(data: bytes) -> bytes:
        kept.append(pack({name: data}))
        return kept[0]

    for codec in every.keys() - set(codecs):
        del weights.CODECS[codec]
    try:
        found = measured(data, shrink, lambda packed: unpack(packed, LARGEST)[name])
    finally:
        weights.CODECS.update(every)
    parts = account(kept[0], LARGEST).parts
    return found | {"weights_bytes": next(part.packed for part in parts if part.kind == WEIGHTS)}


def deepcabac(python: str, layers: list[np.ndarray]) -> dict[str, Any]:
    """Bytes and CPU seconds of DeepCABAC for the INT8 weights alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.npz"
        np.savez(file, **{f"layer{index}.weight": layer for index, layer in enumerate(layers)})
        command, env = [python, "-c", DEEPCABAC, str(file)], {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    size, pack_s, unpack_s = done.stdout.rpartition("RESULT")[2].split()
    return {"weights_bytes": int(size), "pack_s": float(pack_s), "unpack_s": float(unpack_s)}


def compare(file: Path, python: str | None, known: dict[str, Any]) -> dict[str, Any]:
    """Everything about one network; what `known` has of other codecs is taken from there."""
    data = int8_file(file)
    layers = list(weights_in({"model.onnx": data}))
    counts = [frequencies(layer) for layer in layers]
    total = np.sum(counts, axis=0)
    found: dict[str, Any] = {
        "file_bytes": len(data),
        "weights": int(total.sum()),
        "zeros": float(total[0] / total.sum()),
        "entropy_bytes": entropy_bits(total) / 8,
        "entropy_by_layer_bytes": sum(map(entropy_bits, counts)) / 8,
        "pqd pack, plain": packed(data, ["range"]),
        "pqd pack": packed(data, ["range", "rows"]),
    }
    found |= {name: known.get(name) or measured(data, *codec) for name, codec in GENERAL.items()}
    if python:
        rest = found["pqd pack"]["bytes"] - found["pqd pack"]["weights_bytes"]
        weights_alone = known.get("DeepCABAC") or deepcabac(python, layers)
        found["DeepCABAC"] = weights_alone | {"bytes": weights_alone["weights_bytes"] + rest}
    return found


def table(networks: dict[str, dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = []
    for name, found in networks.items():
        lines += [f"## {name}", "", f"{found['weights']:,} INT8 weights, {found['zeros']:.1%} of them zero.", ""]
        lines += [
            "| | bytes, whole file | of the entropy | weights alone | pack | unpack |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        entropy = found["entropy_bytes"]
        lines.append(f"| the file | {found['file_bytes']:,} | {found['file_bytes'] / entropy:.3f} | | | |")
        lines.append(f"| zero-order entropy of the weights | {entropy:,.0f} | 1 | {entropy:,.0f} | | |")
        by_layer = found["entropy_by_layer_bytes"]
        lines.append(f"| the same, layer by layer | {by_layer:,.0f} | {by_layer / entropy:.3f} | {by_layer:,.0f} | | |")
        for codec in (column for column in COLUMNS if column in found):
            row = found[codec]
            alone = f"{row['weights_bytes']:,}" if "weights_bytes" in row else ""
            times = f"{row['pack_s']:.1f} s | {row['unpack_s']:.1f} s"
            lines.append(f"| {codec} | {row['bytes']:,} | {row['bytes'] / entropy:.3f} | {alone} | {times} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Compare, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--deepcabac", metavar="PYTHON")
    parser.add_argument(
        "--again", action="store_true", help="measure pqd pack anew, and keep what is known of the others"
    )
    parser.add_argument("--into", default="full-width", help="name of the result")
    options = parser.parse_args()
    files = {name: Path(file) for name, _, file in (one.partition("=") for one in options.networks)}
    networks: dict[str, Any] = {}
    before = (RESULTS / f"pack/{options.into}.json").read_text() if options.again else "{}"
    known = json.loads(before).get("numbers", {})
    (RESULTS / "pack").mkdir(exist_ok=True)
    for name, file in files.items():
        networks[name] = compare(file, options.deepcabac, known.get(name, {}))
        write_page(write_result(f"pack/{options.into}", networks, threads=1, seeds=[0]), options.into)


def write_page(result: Path, title: str) -> None:
    """The result's table lies beside it."""
    found = json.loads(result.read_text(encoding="utf-8"))
    where = f"- {found['date']}, {found['environment']['cpu']['model']}, CPU seconds of one thread"
    page = f"# Packed sizes: {title}\n\n{table(found['numbers'])}\n{where}\n- Command: `{found['command']}`\n"
    result.with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
