"""Fake quantizers stand where integer kernels read and write, once per value, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stage_kit import context, network
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from pqd_int8 import Int8QatSettings, int8_qat
from pqd_int8.bias import drop_roundings
from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant
from pqd_int8.quantizer import called


def prepared(model: nn.Module) -> GraphModule:
    graph = int8_qat.restructure(model.eval(), Int8QatSettings(weight_range="full"), context())
    assert isinstance(graph, GraphModule)
    drop_roundings(graph)  # test_int8_bias.py looks at them
    return graph


def label(node: Node, graph: GraphModule) -> str:
    module = called(node, graph)
    return type(module).__name__ if module is not None else str(node.target).removeprefix("aten.").partition(".")[0]


def quantized_values(graph: GraphModule) -> list[str]:
    """The operators whose results are on a grid, in the order of the graph."""
    nodes = [node for node in graph.graph.nodes if isinstance(called(node, graph), ActivationFakeQuant)]
    return [label(node.args[0], graph) for node in nodes]


class Net(nn.Module):
    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 10)
        self.offset = nn.Parameter(torch.ones(4, 1, 1))
        self.body = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self, images).mean([2, 3]))


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda net, x: F.relu(net.a(x)), ["images", "relu", "mean"]),
        (lambda net, x: F.relu(net.norm(net.b(F.relu(net.a(x))))), ["images", "relu", "relu", "mean"]),
        (lambda net, x: net.b(F.max_pool2d(F.relu6(net.a(x)), 2)), ["images", "relu6", "conv2d", "mean"]),
        (lambda net, x: F.relu(net.a(x) + net.b(net.a(x))), ["images", "conv2d", "conv2d", "conv2d", "relu", "mean"]),
        (lambda net, x: net.b(F.relu(net.norm(net.a(x)))), ["images", "relu", "conv2d", "mean"]),
        (lambda net, x: net.b(F.silu(net.a(x))), ["images", "conv2d", "silu", "conv2d", "mean"]),
        (lambda net, x: net.b(net.a(x) + net.offset), ["images", "conv2d", "add", "conv2d", "mean"]),
        (lambda net, x: net.b(net.a(x) * 2 + 1), ["images", "conv2d", "add", "conv2d", "mean"]),
    ],
    ids=["relu", "batch-norm", "max-pool", "residual", "shared-name", "silu", "parameter", "numbers"],
)
def test_each_value_of_an_integer_operator_is_on_one_grid(
    forward: Callable[[Net, Tensor], Tensor], expected: list[str]
) -> None:
    assert quantized_values(prepared(Net(forward))) == expected


class Block(nn.Module):
    """A transformer's MLP with its residual, after a convolution that makes patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.after = nn.Conv2d(1, 8, 4, 4), nn.LayerNorm(8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(self.after(x)[:, 0])


def test_what_layer_norms_and_gelu_read_stays_float() -> None:
    assert quantized_values(prepared(Block())) == ["images", "conv2d", "layer_norm", "gelu", "select"]


def test_a_preactivation_network_is_on_grids_throughout() -> None:
    graph = prepared(network())
    assert quantized_values(graph) == [
        "images",
        "relu",
        "relu",
        "BatchNorm2d",
        "conv2d",
        "add",
        "relu",
        "adaptive_avg_pool2d",
    ]


def test_every_layer_s_weight_is_rounded_and_nothing_else_is() -> None:
    graph = prepared(network())
    rounded = [node for node in graph.graph.nodes if isinstance(called(node, graph), WeightFakeQuant)]
    assert sorted(str(node.args[0].target) for node in rounded) == [
        "conv1.weight",
        "conv2.weight",
        "head.1.weight",
        "shortcut.weight",
        "stem.0.weight",
    ]


def test_the_result_of_the_network_stays_float() -> None:
    graph = prepared(network())
    [result] = graph.graph.output_node().args[0]
    assert label(result, graph) == "linear"


def test_grids_are_named_alike_each_time() -> None:
    assert list(prepared(network()).state_dict()) == list(prepared(network(seed=1)).state_dict())


def test_dropout_and_batch_norm_obey_train_and_eval() -> None:
    graph = prepared(network())
    x = torch.randn(64, 1, 8, 8)
    for part in graph.modules():
        if isinstance(part, ActivationFakeQuant | WeightFakeQuant):
            part.disable_fake_quant()
    reference = network()
    assert torch.allclose(graph.eval()(x), reference(x), atol=1e-5)
    graph.train()
    torch.manual_seed(1)
    dropped = graph(x)
    torch.manual_seed(1)
    assert torch.allclose(dropped, reference.train()(x), atol=1e-4)
    assert torch.allclose(graph.get_buffer("bn1.running_mean"), reference.bn1.running_mean, atol=1e-6)
