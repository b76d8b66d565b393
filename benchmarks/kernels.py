"""Where the time of a call in OpenVINO goes: pqd's file beside NNCF's, and beside the CPU's limits.

    python benchmarks/kernels.py            writes `results/kernels.json`
    python benchmarks/kernels.py --table    prints it as the tables of docs/deployment.md

Reads what `deploy.py make` wrote. The times are the runtime's own counters, taken in turns between the two files; the
counters cost time themselves, so shares hold better than sums. The limits are those of the same convolutions in shapes
that suit them best: many multiply-adds for each weight, and next to none, when all time goes into reading weights. On
one thread and on two: what starting the second for each operator costs is the difference.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import openvino
from deploy import BACKBONES, LOCAL, THREADS
from evidence import RESULTS, write_result
from openvino import opset13 as ops

from pqd_runtimes import OpenVinoSettings
from pqd_runtimes.openvino_kernels import Counted, describe
from pqd_runtimes.openvino_runtime import read_ir, session_options

NAME, ROUNDS = "kernels", 60
FILES = {"pqd": "pqd/openvino/model.xml", "nncf": "nncf.xml"}
SILENT = frozenset({"Const", "Input", "Output"})
LIMITS = {
    # what is reached: channels, pixels along an edge, layers one after the other
    "multiply_adds_per_us": (256, 32, 4),
    "weights_per_us": (512, 2, 8),
}
Node = dict[str, Any]


def count(model: openvino.Model, images: np.ndarray, threads: int) -> Counted:
    """The network compiled with counters as `pqd_runtimes` compiles it without."""
    return Counted(model, images, session_options(threads, OpenVinoSettings()))


def nodes(counted: Counted) -> list[Node]:
    """What ran, in order, with the median of its microseconds."""
    told = [(operator, describe(operator)) for operator in counted.operators]
    return [_node(counted, operator, about) for operator, about in told if about["layerType"] not in SILENT]


def _node(counted: Counted, operator: Any, about: dict[str, str]) -> Node:
    name, kind = operator.get_friendly_name(), about["layerType"]
    weights, output = prod(_shape(operator.input(1))) if kind == "Convolution" else 0, _shape(operator.output(0))
    return {
        "name": name,
        "kernel": f"{kind} {about['primitiveType'].lower()}",
        "shape": output,
        "us": float(np.median(counted.microseconds(name))),
        "weights": weights,
        "multiply_adds": weights * prod(output[2:]) * output[0],
    }


def _shape(port: Any) -> list[int]:
    return [dimension.get_length() for dimension in port.get_partial_shape()]


def convolutions(channels: int, edge: int, layers: int, threads: int) -> Counted:
    """Quantized convolutions with kernels of 3 x 3 in a row."""
    rng, one = np.random.default_rng(0), np.float32(1)
    images = ops.parameter([1, channels, edge, edge], np.float32)
    values = images
    grid = [ops.constant(end * one) for end in (0, 4, 0, 4)]
    for _ in range(layers):
        whole = rng.integers(-127, 128, (channels, channels, 3, 3)).astype(np.int8)
        weight = ops.multiply(
            ops.convert(ops.constant(whole), "f32"), ops.constant(np.full((channels, 1, 1, 1), 1e-3 * one))
        )
        read = ops.fake_quantize(values, *grid, 256)
        values = ops.convolution(read, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([ops.reduce_mean(values, ops.constant(np.array([2, 3])))], [images])
    return count(model, np.ones((1, channels, edge, edge), np.float32), threads)


def limits(threads: int) -> dict[str, float]:
    """What convolutions reach at best: multiply-adds, and weights that are read, in a microsecond."""
    found = {}
    for name, shape in LIMITS.items():
        counted = convolutions(*shape, threads)
        for _ in range(ROUNDS):
            counted.call()
        layers = [node for node in nodes(counted) if node["weights"]]
        key = name.removesuffix("_per_us")
        found[name] = max(node[key] / node["us"] for node in layers)
    return found


def compare(backbone: str, threads: int) -> dict[str, list[Node]]:
    """The operators of both files."""
    images = np.load(LOCAL / backbone / "images.npy")[:1]
    both = {label: count(read_ir(LOCAL / backbone / file), images, threads) for label, file in FILES.items()}
    for _ in range(ROUNDS):
        for counted in both.values():
            counted.call()
    return {label: nodes(counted) for label, counted in both.items()}


def shared(own: list[Node], others: list[Node]) -> float:
    """Share of the time of `own` in kernels that `others` run too, on the same shape, as often."""
    left = Counter((node["kernel"], *node["shape"]) for node in others)
    time = 0.0
    for node in own:
        key = (node["kernel"], *node["shape"])
        if left[key]:
            left[key] -= 1
            time += node["us"]
    return time / sum(node["us"] for node in own)


def at_best(own: list[Node], reached: dict[str, float]) -> float:
    """Share of the time that the convolutions would take at the limits, the nearer one for each."""
    times = (
        max(node["multiply_adds"] / reached["multiply_adds_per_us"], node["weights"] / reached["weights_per_us"])
        for node in own
    )
    return sum(times) / sum(node["us"] for node in own)


def table(numbers: dict[str, Any]) -> str:
    """A row for each file."""
    rows = [
        "| threads | backbone | file | us, all operators | convolutions | same kernels | convolutions at the limits |"
    ]
    rows.append("|--:|---|---|--:|--:|--:|--:|")
    return "\n".join([*rows, *(row for threads, found in numbers.items() for row in _rows(threads, found))])


def _rows(threads: str, numbers: dict[str, Any]) -> Iterator[str]:
    for backbone, both in numbers["files"].items():
        for label, own in both.items():
            others = both["nncf" if label == "pqd" else "pqd"]
            total = sum(node["us"] for node in own)
            convolved = sum(node["us"] for node in own if node["weights"]) / total
            shares = (convolved, shared(own, others), at_best(own, numbers["limits"]))
            yield f"| {threads} | {backbone} | {label} | {total:.0f} | " + " | ".join(f"{x:.1%}" for x in shares) + " |"


def main() -> None:
    """Measure, or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true")
    if parser.parse_args().table:
        print(table(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))["numbers"]))
        return
    numbers = {
        str(threads): {"limits": limits(threads), "files": {name: compare(name, threads) for name in BACKBONES}}
        for threads in (1, THREADS)
    }
    print(table(numbers))
    write_result(NAME, numbers, threads=THREADS, seeds=[0])


if __name__ == "__main__":
    main()
