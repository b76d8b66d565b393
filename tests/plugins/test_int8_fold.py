"""The last changes before conversion leave what the graph computes alone."""

from __future__ import annotations

import copy

import torch
from stage_kit import context, images, network
from torch import Tensor, nn
from torch.fx import GraphModule

from pqd_int8 import Int8QatSettings, fold, int8_qat
from pqd_int8.bias import drop_roundings, fix_units
from pqd_int8.fake_quant import WeightFakeQuant
from pqd_int8.quantizer import called, origin

SETTINGS = Int8QatSettings(weight_range="reduced", calibration_images=64)


def calibrated(model: nn.Module) -> GraphModule:
    around = context(epochs=0)
    graph = int8_qat.run(int8_qat.restructure(model, SETTINGS, around), SETTINGS, around)
    assert isinstance(graph, GraphModule)
    return graph


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(images())


def norms(graph: GraphModule) -> list[str]:
    return [node.target for node in graph.graph.nodes if isinstance(called(node, graph), nn.BatchNorm2d)]


def test_folding_batch_norms_changes_no_result() -> None:
    graph = calibrated(network())
    drop_roundings(graph)
    before = logits(graph)
    fold.fold_batch_norms(graph)
    assert norms(graph) == ["bn3"]
    assert torch.allclose(logits(graph), before, atol=0.02 * float(before.abs().max()))
    assert float((logits(graph) - before).abs().median()) < 1e-5


def test_a_batch_norm_between_grids_becomes_an_exact_convolution() -> None:
    graph = calibrated(network())
    before = logits(graph)
    drop_roundings(graph)
    fold.convolve_batch_norms(graph)
    assert "bn3" not in norms(graph)
    assert graph.get_parameter("bn3.weight").shape == (16, 1, 1, 1)
    assert torch.allclose(logits(graph), before, atol=0.02 * float(before.abs().max()))
    frozen = int8_qat.freeze(calibrated(network()))
    assert torch.allclose(logits(frozen), before, atol=0.02 * float(before.abs().max()))


class Twice(nn.Module):
    """One convolution with one batch norm, run through twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Linear(64, 10)
        self.norm.running_var.fill_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.flatten(x, 1))


def test_a_weight_that_two_layers_share_is_not_folded_twice() -> None:
    graph = calibrated(Twice())
    before = logits(graph)
    frozen = int8_qat.freeze(copy.deepcopy(graph))
    assert torch.allclose(logits(frozen), before, atol=0.02 * float(before.abs().max()))


def test_a_channel_that_is_all_but_switched_off_keeps_its_bias_within_32_bits() -> None:
    model = network()
    with torch.no_grad():
        model.conv1.weight[3] *= 1e-20
        model.conv2.weight[5] = 0
        model.bn1.running_mean[3], model.bn1.bias[3] = 0, 1.0
    graph = calibrated(model)
    before, frozen = logits(graph), int8_qat.freeze(copy.deepcopy(graph))
    drop_roundings(graph)
    fold.fold_batch_norms(graph)
    fix_units(graph)
    for node in graph.graph.nodes:
        rounded = called(node.args[1], graph) if len(node.args) > 2 else None
        if isinstance(rounded, WeightFakeQuant):
            source = called(origin(node.args[0], graph), graph)
            bias = graph.get_parameter(str(node.args[2].target)).detach()
            in_units = bias.abs() / (source.scale * rounded.steps)  # type: ignore[union-attr]
            assert float(in_units.max()) < 2**31
    assert torch.allclose(logits(frozen), before, atol=0.02 * float(before.abs().max()))
