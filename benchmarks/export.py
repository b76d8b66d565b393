"""How long it takes from a quantized network in training form to the files to deploy, against the plain route.

    python benchmarks/export.py [--rounds 7]

Both start from a ResNet-20 (full width) under simulated quantization, as it is after training:

- plain: what torchao's and PyTorch's pages tell: `convert_pt2e`, `torch.export`, `torch.onnx.export(dynamo=True)` with
  defaults. One ONNX file.
- pqd: the stage's `freeze`, then the exports of the `onnxruntime` and the `openvino` runtime. Two files.

Each takes place in a fresh process, as in a script that exports once, in alternating order. Imports are not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from evidence import summary, write_result
from networks import calibrated, make_network, random_images
from torch.export import Dim

BACKBONE, THREADS = "resnet20", 2
Phases = dict[str, float]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: Phases = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What runs inside counts as `name`."""
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def plain(folder: Path, clock: Clock) -> None:
    """torchao's x86 quantizer, which fuses batch norms as it converts, and PyTorch's exporter."""
    import onnxscript  # noqa: F401 - not counted
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    example, shapes = (torch.zeros(2, 3, 32, 32),), ({0: Dim.DYNAMIC},)
    graph = torch.export.export(make_network(BACKBONE).train(), example, dynamic_shapes=shapes).module()
    prepared = prepare_qat_pt2e(graph, quantizer)
    prepared(torch.randn(64, 3, 32, 32))
    with clock.phase("convert_pt2e"):
        model = convert_pt2e(prepared)
        move_exported_model_to_eval(model)
    with clock.phase("torch.export"):
        program = torch.export.export(model, example, dynamic_shapes=shapes)
    with clock.phase("torch.onnx.export"):
        torch.onnx.export(program, (), folder / "model.onnx", dynamo=True)


def pqd(folder: Path, clock: Clock) -> None:
    """The stage and two runtimes."""
    import onnxscript  # noqa: F401 - not counted

    from pqd_runtimes import OnnxRuntimeSettings, OpenVinoSettings, onnx_runtime, openvino_runtime

    prepared, freeze = calibrated(make_network(BACKBONE), random_images(64))
    example, shared = torch.zeros(2, 3, 32, 32), folder / "shared"
    for needed in (shared, folder / "onnxruntime", folder / "openvino"):
        needed.mkdir()
    with clock.phase("freeze"):
        model = freeze(prepared)
    with clock.phase("export to onnxruntime"):
        onnx_runtime.export(model, example, folder / "onnxruntime", shared, OnnxRuntimeSettings())
    with clock.phase("export to openvino"):
        openvino_runtime.export(model, example, folder / "openvino", shared, OpenVinoSettings())


ROUTES: dict[str, Callable[[Path, Clock], None]] = {"plain": plain, "pqd": pqd}


def in_this_process(route: str) -> None:
    """One export; prints its phases and the bytes of what it wrote."""
    torch.set_num_threads(THREADS)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        ROUTES[route](Path(folder), clock)
        files = {file.relative_to(folder).as_posix(): file.stat().st_size for file in Path(folder).rglob("*.*")}
    print(json.dumps({"seconds": clock.seconds, "bytes": files}))


def in_a_fresh_process(route: str) -> dict[str, Phases]:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, "--route", route]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answer: dict[str, Phases] = json.loads(printed.splitlines()[-1])
    return answer


def main() -> None:
    """Export once, or alternate both routes and write their times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--route", choices=ROUTES)
    options = parser.parse_args()
    if options.route:
        in_this_process(options.route)
    else:
        compare(options.rounds)


def compare(rounds: int) -> None:
    """The ratio of both routes' times, in alternating order, and what they wrote."""
    found: dict[str, list[dict[str, Phases]]] = {route: [] for route in ROUTES}
    for round_ in range(rounds):
        for route in list(ROUTES)[:: 1 if round_ % 2 else -1]:
            found[route].append(in_a_fresh_process(route))
    totals = {route: [sum(one["seconds"].values()) for one in answers] for route, answers in found.items()}
    ratio = summary([ours / theirs for ours, theirs in zip(totals["pqd"], totals["plain"], strict=True)])
    numbers = {route: _table(answers, totals[route]) for route, answers in found.items()}
    print(f"ratio {ratio['median']:.3f} {ratio['interval_95']}")
    write_result("export", {"backbone": BACKBONE, "ratio": ratio, **numbers}, threads=THREADS, seeds=[0])


def _table(answers: list[dict[str, Phases]], totals: list[float]) -> dict[str, object]:
    phases = {name: summary([one["seconds"][name] for one in answers]) for name in answers[0]["seconds"]}
    return {"seconds": summary(totals), "phases": phases, "bytes": answers[0]["bytes"]}


if __name__ == "__main__":
    main()
