"""From a frozen model to ONNX, through PyTorch's exporter, without the retracing that most networks have no need of.

A third of the exporter's time goes into `run_decompositions`, which traces the whole program again so that operators
that ONNX does not know become ones that it knows. A program that has none of them comes out as it went in.
"""

from __future__ import annotations

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import ExportedProgram

from pqd_runtimes.program import DEQUANTIZE, QUANTIZE, exported_program
from pqd_runtimes.refusals import told_as

OPSET = 20
"""Quantized tensors have their two operators since 10, per-channel scales since 13; both runtimes fuse this one's."""
aten = torch.ops.aten
DIRECT = frozenset(
    {
        *QUANTIZE,
        *DEQUANTIZE,
        aten.add.Tensor,
        aten.avg_pool2d.default,
        aten.cat.default,
        aten.conv1d.default,
        aten.conv2d.default,
        aten.flatten.using_ints,
        aten.gelu.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.hardtanh.default,
        aten.linear.default,
        aten.max_pool2d.default,
        aten.mean.dim,
        aten.mul.Tensor,
        aten.relu.default,
        aten.relu6.default,
        aten.reshape.default,
        aten.sigmoid.default,
        aten.silu.default,
        aten.view.default,
    }
)
"""Operators that the exporter translates one to one: all that most quantized networks are made of."""


def translated(model: nn.Module, example: Tensor) -> ModelProto:
    """The ONNX form of `model`, as PyTorch's exporter writes it.

    Raises:
        DeployError: the model cannot be traced, or has an operator that ONNX has no counterpart for.
    """
    program = exported_program(model, example)
    _spell_out_global_pools(program)
    for node in program.graph.nodes:
        node.meta.setdefault("nn_module_stack", {})  # else the exporter warns, node by node, that it has none
    _decompose_only_if_needed(program)
    with told_as("export", "the model cannot be translated to ONNX", "deploy it with the torch runtime"):
        translation = torch.onnx.export(
            program,
            (),
            dynamo=True,
            external_data=False,
            optimize=True,  # folds constants, which leaves int8 zero points, and batch norms
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
        assert translation is not None
        return translation.model_proto


def _spell_out_global_pools(program: ExportedProgram) -> None:
    """An adaptive average pool to one pixel is a mean: what its decomposition says, and all that most networks need."""
    for node in program.graph.find_nodes(op="call_function", target=aten.adaptive_avg_pool2d.default):
        if list(node.args[1]) == [1, 1]:
            node.target, node.args = aten.mean.dim, (node.args[0], [-1, -2], True)
    program.graph_module.recompile()


def _decompose_only_if_needed(program: ExportedProgram) -> None:
    """`program` answers the exporter's call with itself if every operator in it would be left as it is."""
    operators = {node.target for node in program.graph.nodes if node.op not in ("placeholder", "output")}
    if operators <= DIRECT:
        program.run_decompositions = lambda *_, **__: program
