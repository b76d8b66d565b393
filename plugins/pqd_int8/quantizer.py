"""Which tensors of a network become INT8: a placement that ONNX Runtime and OpenVINO both run on integer kernels.

Runtimes fuse `dequantize -> operator -> quantize` into one integer operator, so a value has to be on a grid wherever
such an operator reads or writes it:

- what a convolution or linear layer reads, and its weight;
- what a convolution writes after its batch norm and ReLU;
- both operands and the result (after ReLU) of a residual addition;
- what an average pool reads and writes.

Runtimes let a linear layer write float, so what it writes is on a grid only if an integer operator reads it. Matrix
products of attention, softmax, layer norms and GELU stay float: they have no weights, or no integer kernel in both
runtimes. A residual stream that layer norms read stays float with them, since rounding it would buy no kernel.

Each value is quantized once, where it is computed, so all its readers see the same numbers. Operators that only move
values (max pool, flatten, ...) need no grid of their own. The network's result stays float.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant
from pqd_int8.target import WeightRange

A = torch.ops.aten
LAYERS = (A.conv1d.default, A.conv1d.padding, A.conv2d.default, A.conv2d.padding, A.linear.default)
ADDS = (A.add.Tensor, A.add_.Tensor)
AVERAGES = (A.adaptive_avg_pool2d.default, A.avg_pool2d.default, A.mean.dim)
RELUS = (A.relu.default, A.relu_.default, A.relu6.default, A.relu6_.default, A.hardtanh.default, A.hardtanh_.default)
MOVES = (
    A.max_pool1d.default,
    A.max_pool2d.default,
    A.flatten.using_ints,
    A.view.default,
    A.reshape.default,
    A.permute.default,
    A.transpose.int,
    A.squeeze.dim,
    A.squeeze.dims,
    A.unsqueeze.default,
)


class Int8Quantizer(Quantizer):  # type: ignore[misc]
    """Annotates a graph: activations uint8, one grid each; weights int8, symmetric, one step per channel."""

    def __init__(
        self, weight_range: WeightRange, layers: Collection[str], symmetric: bool = False, momentum: float = 0.01
    ) -> None:
        self.layers = layers
        """Names of the layers to quantize; the others stay float."""
        self.weight = QuantizationSpec(
            dtype=torch.int8,
            quant_min=weight_range.low,
            quant_max=weight_range.high,
            qscheme=torch.per_channel_symmetric,
            observer_or_fake_quant_ctr=WeightFakeQuant,
        )
        self.activation = QuantizationSpec(
            dtype=torch.uint8,
            quant_min=0,
            quant_max=255,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=ActivationFakeQuant.with_args(symmetric=symmetric, momentum=momentum),
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        """Each node that computes a value for an integer operator says so."""
        for node, name in quantizable(model):
            if name in self.layers:
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation({_weight_of(node): self.weight}, _annotated=True)
                self._on_grid(origin(node.args[0], model))
                if node.target is not A.linear.default:
                    self._on_grid(end_of_chain(node, model))
        for node in model.graph.nodes:
            if node.target in ADDS and _is_residual(node) and not _is_normalized(node):
                self._on_grid(*(origin(operand, model) for operand in node.args[:2]), end_of_chain(node, model))
            elif node.target in AVERAGES:
                self._on_grid(origin(node.args[0], model), node)
        return model

    def _on_grid(self, *nodes: Node) -> None:
        for node in nodes:
            if not _is_result(node):
                annotation = node.meta.setdefault(Q_ANNOTATION_KEY, QuantizationAnnotation(_annotated=True))
                annotation.output_qspec = self.activation

    def validate(self, model: GraphModule) -> None:
        """Any placement is valid: what is not annotated stays float."""


def quantizable(model: GraphModule) -> Iterator[tuple[Node, str]]:
    """Each convolution and linear node whose weight is a parameter, with its layer's name."""
    for node in model.graph.nodes:
        if node.target in LAYERS and (weight := _weight_of(node)).op == "get_attr":
            yield node, str(weight.target).removesuffix(".weight")


def _weight_of(node: Node) -> Node:
    weight = node.args[1]
    assert isinstance(weight, Node)
    return weight


def _is_activation(operand: object) -> bool:
    """A computed value; not a number, and not a parameter such as a position embedding."""
    return isinstance(operand, Node) and operand.op != "get_attr"


def _is_residual(addition: Node) -> bool:
    return all(_is_activation(operand) for operand in addition.args[:2])


def _is_normalized(node: Node) -> bool:
    """A layer norm reads the value that `node` computes, or what only moves it does."""
    return any(
        user.target is A.layer_norm.default or (user.target in MOVES and _is_normalized(user)) for user in node.users
    )


def origin(node: object, model: GraphModule) -> Node:
    """Where the value that `node` passes on was computed; dropout, too, passes on what it does not drop."""
    assert isinstance(node, Node)
    is_move = node.target in MOVES or isinstance(called(node, model), _DropoutNd)
    return origin(node.args[0], model) if is_move else node


def end_of_chain(node: Node, model: GraphModule) -> Node:
    """The last of `node`, its batch norm and its ReLU: runtimes fuse them, so only the last value is ever written."""
    if node.target in LAYERS and (norm := batch_norm_after(node, model)):
        node = norm
    follower = _only_user(node)
    return follower if follower is not None and follower.target in RELUS else node


def batch_norm_after(node: Node, model: GraphModule) -> Node | None:
    """The batch norm that `node` alone feeds, if its channels are the node's output channels."""
    follower = _only_user(node)
    channels_second = node.target is not A.linear.default or node.meta["val"].dim() == 2
    return follower if channels_second and isinstance(called(follower, model), _BatchNorm) else None


def called(node: object, model: GraphModule) -> nn.Module | None:
    """The module that `node` calls, if it calls one."""
    return model.get_submodule(str(node.target)) if isinstance(node, Node) and node.op == "call_module" else None


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_result(node: Node) -> bool:
    """The network's output, or nothing but a move away from it."""
    return all(user.op == "output" or (user.target in MOVES and _is_result(user)) for user in node.users)
