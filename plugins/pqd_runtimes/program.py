"""A frozen model as a `torch.export` program: a free batch size, named weights, nothing that is not needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib  # noqa: F401 - registers the operators
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec
from torch.fx import Node

from pqd_core import DeployError, Problem
from pqd_runtimes.refusals import told_as

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
LAYERS = frozenset(
    {
        aten.conv1d.default,
        aten.conv1d.padding,
        aten.conv2d.default,
        aten.conv2d.padding,
        aten.conv3d.default,
        aten.conv3d.padding,
        aten.conv_transpose2d.input,
        aten.convolution.default,
        aten.linear.default,
    }
)
MADE_UP = re.compile(r"_frozen_param\d+")
"""What `convert_pt2e` calls the int8 weights."""
QUANTIZE = frozenset({quantized.quantize_per_channel.default, quantized.quantize_per_tensor.default})
DEQUANTIZE = frozenset({quantized.dequantize_per_channel.default, quantized.dequantize_per_tensor.default})


def exported_program(model: nn.Module, example: Tensor) -> ExportedProgram:
    """`model` as a program whose batch size is free and that carries only what its outputs depend on.

    A quantized weight is called `<layer>.weight` again, so that the layer can be found in every file that is made
    from the program.

    Raises:
        DeployError: the model cannot be traced, or fixes its batch size.
    """
    hint = "a forward pass must not branch on values, nor fix its batch size"
    with told_as("export", "torch.export cannot trace the model", hint), torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    _check_one_output(program)
    _drop_unused_weights(program)
    _name_weights(program)
    _keep_only_layer_names(program)
    program.example_inputs = None  # they would be saved as a pickle
    return program


def layer_weights(program: ExportedProgram) -> Iterator[tuple[Node, Node, Node | None]]:
    """For each convolution and linear layer with a stored weight: its node, the weight's, and the dequantization's."""
    for node in program.graph.nodes:
        if node.target not in LAYERS:
            continue
        weight, dequantize = node.args[1], None
        if weight.target in DEQUANTIZE:
            weight, dequantize = weight.args[0], weight
        if weight.op == "placeholder":
            yield node, weight, dequantize


def input_specs(program: ExportedProgram) -> dict[str, InputSpec]:
    """What each input of the graph stands for, by the name of its node."""
    return {spec.arg.name: spec for spec in program.graph_signature.input_specs}


def images_of(program: ExportedProgram) -> torch.Size:
    """The sizes (N, C, H, W) of what the program takes, symbols where they are free."""
    name = program.graph_signature.user_inputs[0]
    images = next(node for node in program.graph.find_nodes(op="placeholder") if node.name == name)
    sizes: torch.Size = images.meta["val"].shape
    return sizes


def _check_one_output(program: ExportedProgram) -> None:
    inputs, outputs = program.graph_signature.user_inputs, program.graph_signature.user_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        what = f"the model has {len(inputs)} inputs and {len(outputs)} outputs"
        raise DeployError(Problem("export", what, "it must map images to logits"))


def _drop_unused_weights(program: ExportedProgram) -> None:
    """A converted model still owns its float weights, and batch norms their counters."""
    specs = input_specs(program)
    for node in program.graph.find_nodes(op="placeholder"):
        spec = specs[node.name]
        if node.users or spec.kind is InputKind.USER_INPUT:
            continue
        program.graph.erase_node(node)
        program.graph_signature.input_specs.remove(spec)
        assert spec.target is not None
        program.state_dict.pop(spec.target, None)
        program.constants.pop(spec.target, None)
    program.graph_module.recompile()


def _name_weights(program: ExportedProgram) -> None:
    specs = input_specs(program)
    taken = {str(spec.target) for spec in specs.values()}
    for layer, weight, _ in layer_weights(program):
        spec = specs[weight.name]
        assert spec.target is not None
        if not MADE_UP.fullmatch(spec.target):
            continue
        name = _free_name(module_path(layer) or layer.name, taken)
        for store in (program.state_dict, program.constants):
            if spec.target in store:
                store[name] = store.pop(spec.target)
        spec.target = name
        taken.add(name)


def _free_name(layer: str, taken: set[str]) -> str:
    name, count = f"{layer}.weight", 1
    while name in taken:
        count += 1
        name = f"{layer}_{count}.weight"
    return name


def module_path(node: Node) -> str:
    """The innermost module that a node comes from, as the graph tells it; empty if it does not."""
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    return str(list(stack.values())[-1][0])


def _keep_only_layer_names(program: ExportedProgram) -> None:
    """Source lines and paths of the machine that exported do not belong in a file to deploy."""
    for node in program.graph.nodes:
        node.meta = {key: node.meta[key] for key in ("val", "tensor_meta") if key in node.meta}
    specs = input_specs(program)
    for layer, weight, _ in layer_weights(program):
        name = str(specs[weight.name].target).removesuffix(".weight")
        layer.meta["nn_module_stack"] = {"layer": (name, "")}
