"""What PyTorch really runs of a program: its ATen operators one by one, or what Inductor has made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch._ops import OpOverload, OpOverloadPacket
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pqd_core import Operator
from pqd_runtimes.program import images_of, input_specs, layer_weights, module_path
from pqd_runtimes.refusals import refuse

SIMULATED = "eager mode dequantizes and computes in float; mode: compiled has integer kernels"
LOOPS = "Inductor has INT8 kernels for layers; what lies between them runs in its own loops, in float"
CONVERT = re.compile("(de)?quantize_.*|_to_copy")
MOVE = frozenset(
    {
        *("view", "reshape", "flatten", "permute", "transpose", "t", "squeeze", "unsqueeze", "expand", "slice", "pad"),
        *("select", "split", "split_with_sizes", "chunk", "cat", "stack", "clone", "contiguous", "roll", "alias"),
        *("constant_pad_nd", "detach", "dropout", "inductor_force_stride_order"),
    }
)
OPERATORS = (OpOverload, OpOverloadPacket)
MULTIPLIES = re.compile(".*(conv|linear|mm).*")
INTEGERS = frozenset({torch.uint8, torch.int8})
Sizes = Mapping[Any, int]
"""Numbers for sympy's symbols in a program."""
SCALES = 4
"""The place of the weight's scales among the arguments of oneDNN's quantized layers."""


@frozen
class Layer:
    """A layer of the program, and what it is known by in the graph that Inductor makes."""

    node: Node = field(eq=False)
    name: str
    macs: int
    """Multiply-adds for one image."""
    scales: bytes | None
    """Those of its quantized weight."""


def eager_execution(program: ExportedProgram, image: tuple[int, ...]) -> list[Operator]:
    """The operators of the graph, in order: each runs by itself; `image` is the shape of one, (C, H, W)."""
    layers = {layer.node: layer for layer in _layers(program, _sizes(program, image))}
    operators = [_operator(node, layers.get(node)) for node in _running(program.graph.nodes)]
    return _explained(operators, SIMULATED, layers_too=True)


def compiled_execution(file: Path, program: ExportedProgram, image: tuple[int, ...]) -> list[Operator]:
    """The operators that are left when Inductor has frozen the weights and put in oneDNN's INT8 layers.

    What is no layer there it fuses into loops of its own, which compute in float. `image` is the shape of one,
    (C, H, W).

    Raises:
        DeployError: a layer of the program cannot be found again.
    """
    sizes = _sizes(program, image)
    layers, operators = list(_layers(program, sizes)), list[Operator]()
    images = torch.zeros([_known(size, sizes) for size in images_of(program)])
    graph = frozen_graph(program.module(check_guards=False), images)
    for node in _running(graph.graph.nodes):
        layer = next((one for one in layers if _is_made_of(node, one, graph)), None)
        if layer is not None:
            layers.remove(layer)
        operators.append(_operator(node, layer))
    if layers:
        raise refuse(file, f"what Inductor has made of {layers[0].name!r} is not known", "set mode: eager to see it")
    return _explained(operators, LOOPS, layers_too=False)


def _explained(operators: Sequence[Operator], why: str, *, layers_too: bool) -> list[Operator]:
    """Where something is quantized, whatever computes in float all the same says why."""
    quantized = any(one.kind.startswith("dequantize") or (one.macs and one.integer) for one in operators)
    unexplained = [quantized and one.role == "compute" and not one.integer for one in operators]
    return [
        evolve(one, why=why) if asked and (layers_too or not one.macs) else one
        for one, asked in zip(operators, unexplained, strict=True)
    ]


def frozen_graph(module: nn.Module, images: Tensor) -> GraphModule:
    """What Inductor would generate code from; none is generated."""
    # Importing the quantizer registers torchao's INT8 fusions with Inductor, which takes seconds to import.
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._inductor.compile_fx import compile_fx

    found: list[GraphModule] = []

    def keep(graph: GraphModule, inputs: Any, **_: Any) -> Any:
        found.append(graph)
        return make_boxed_func(graph.forward)

    def backend(graph: GraphModule, inputs: Any) -> Any:
        return compile_fx(graph, inputs, inner_compile=keep)

    compiled = torch.compile(module, backend=backend, dynamic=False)
    with torch.no_grad(), inductor_config.patch(freezing=True):
        compiled(images)
    return found[-1]


def _layers(program: ExportedProgram, sizes: Sizes) -> Iterator[Layer]:
    specs, stored = input_specs(program), {**program.constants, **program.state_dict}
    images = _known(images_of(program)[0], sizes)  # more than one where the program takes so many at once
    for node, weight, dequantize in layer_weights(program):
        name = str(specs[weight.name].target).removesuffix(".weight")
        scanned = node.all_input_nodes[0] if "transpose" in _kind(node) else node
        macs = _values(scanned, sizes) * prod(weight.meta["val"].shape[1:]) // images
        scales: Any = dequantize.args[1] if dequantize is not None else None
        of_channels = isinstance(scales, Node)  # else one number for the whole weight
        yield Layer(node, name, macs, _bytes(stored[str(specs[scales.name].target)]) if of_channels else None)


def _is_made_of(node: Node, layer: Layer, graph: GraphModule) -> bool:
    """By the layer's name, which the node has kept, or by the scales of its weight."""
    if not MULTIPLIES.fullmatch(_kind(node)):
        return False
    if module_path(node) == layer.name:
        return True
    scales = node.args[SCALES] if len(node.args) > SCALES else None
    if layer.scales is None or not isinstance(scales, Node) or scales.op != "get_attr":
        return False
    return _bytes(getattr(graph, str(scales.target))) == layer.scales


def _running(nodes: Iterable[Node]) -> Iterator[Node]:
    """Those that make tensors; sizes and picks from tuples are no work."""
    for node in nodes:
        if node.op == "call_function" and isinstance(node.target, OPERATORS) and _made(node) is not None:
            yield node


def _operator(node: Node, layer: Layer | None) -> Operator:
    kind, source = _kind(node), next((made for made in map(_made, node.all_input_nodes) if made is not None), None)
    integer = source is not None and source.dtype in INTEGERS
    name, macs = (layer.name, layer.macs) if layer else (node.name, 0)
    return Operator(name, kind, _role(kind), integer, macs)


def _kind(node: Node) -> str:
    """`conv2d` of `aten.conv2d.default`."""
    return str(node.target).split(".")[1]


def _role(kind: str) -> Literal["compute", "convert", "move"]:
    return "convert" if CONVERT.fullmatch(kind) else "move" if kind in MOVE else "compute"


def _made(node: Node) -> Tensor | None:
    """What a node makes, without its values; the first of several."""
    made = node.meta.get("val")
    if isinstance(made, tuple | list) and made:
        made = made[0]
    return made if isinstance(made, Tensor) else None


def _sizes(program: ExportedProgram, image: tuple[int, ...]) -> Sizes:
    """What the sizes that `program` leaves open are for one image."""
    takes: Iterable[int | torch.SymInt] = images_of(program)
    both = zip(takes, (1, *image), strict=True)
    return {size.node.expr: known for size, known in both if not isinstance(size, int)}


def _values(node: Node, sizes: Sizes) -> int:
    """How many values a node makes."""
    return prod(_known(size, sizes) for size in node.meta["val"].shape)


def _known(size: int | torch.SymInt, sizes: Sizes) -> int:
    return size if isinstance(size, int) else int(size.node.expr.subs(sizes))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().float().numpy().tobytes()
