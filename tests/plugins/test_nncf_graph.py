"""What of `nncf-int8` needs no NNCF: objections to a plan, the stored placement, and the graph of integers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from stage_kit import images
from torch import Tensor, nn

import pqd_nncf
from pqd_core import PqdError, Spec
from pqd_core.plan import build_plan
from pqd_nncf import missing_tools
from pqd_nncf.integers import OnChannelGrid, OnTensorGrid, integer_graph, round_biases
from pqd_nncf.placement import LARGEST_BYTES, Placement, placement_of, read_placement

Q = torch.ops.quantized_decomposed
LAYERS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
QUANTIZER = {
    "hook_names_in_model": ["pre_hooks.conv/conv2d/0__1.0"],
    "module_path": "nncf.torch.quantization.layers",
    "module_cls_name": "SymmetricQuantizer",
    "module_config": {"num_bits": 8, "mode": "symmetric", "scale_shape": [4, 1, 1, 1]},
}


def placement(**changes: object) -> Tensor:
    text = json.dumps({"compression_state": [{**QUANTIZER, **changes}]})
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


# --- before any time is spent


def plan_problems(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(pqd_nncf, "find_spec", lambda name: object())
    spec = {"backbone": "resnet20", "dataset": "digits", "runtimes": ["onnxruntime"], "measure": ["size"]}
    with pytest.raises(PqdError) as refused:
        build_plan(Spec(**spec, stages=["nncf-int8"]))
    return str(refused.value)


def test_a_plan_is_refused_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    told = plan_problems(monkeypatch)
    assert "there is no C++ compiler (no-such-compiler) on the PATH" in told
    assert "install g++ and ninja, or quantize with int8-qat" in told


def test_every_missing_tool_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(pqd_nncf, "search_path", lambda: str(tmp_path))
    told = plan_problems(monkeypatch)
    assert "no C++ compiler (c++)" in told
    assert "no ninja (ninja)" in told


def test_without_nncf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pqd_nncf, "find_spec", lambda name: None)
    assert [problem.hint for problem in missing_tools()] == ["python3 -m pip install 'pqd[nncf]'"]


def test_ninja_is_found_beside_python_though_the_environment_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(pqd_nncf.sys, "executable", "/somewhere/bin/python")
    assert pqd_nncf.search_path() == "/usr/bin:/somewhere/bin"


# --- the placement, which may come from a stranger


def test_a_placement_is_read_as_it_was_written() -> None:
    read = read_placement(placement())
    assert read_placement(read.as_tensor()) == read
    assert read.for_nncf()["compression_state"][0]["module_config"]["mode"] == "symmetric"
    assert isinstance(read, Placement)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"module_path": "nncf.torch.function_hook.pruning.magnitude.modules"}, "module_path"),
        ({"module_cls_name": "SQMultiply"}, "module_cls_name"),
        ({"module_config": {"num_bits": 4, "scale_shape": [1]}}, "num_bits"),
        ({"module_config": {"num_bits": 8, "scale_shape": [-1]}}, "scale_shape"),
        ({"module_config": {"num_bits": 8, "scale_shape": [2**40]}}, "scale_shape"),
        ({"hook_names_in_model": "all"}, "hook_names_in_model"),
    ],
)
def test_a_placement_of_anything_but_int8_quantizers_is_refused(changes: dict[str, object], where: str) -> None:
    with pytest.raises(PqdError, match=where):
        read_placement(placement(**changes))


def test_what_another_version_of_nncf_might_tell_is_refused_with_the_place() -> None:
    with pytest.raises(PqdError, match=r"compression_state.0.module_cls_name: .*; install the version"):
        placement_of({"compression_state": [{**QUANTIZER, "module_cls_name": "Quantizer"}]})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(8, dtype=torch.uint8),
        torch.zeros(8),
        torch.zeros(0, dtype=torch.uint8),
        torch.zeros(LARGEST_BYTES + 1, dtype=torch.uint8),
    ],
    ids=["no JSON", "floats", "nothing", "too much"],
)
def test_a_damaged_placement_is_refused(tensor: Tensor) -> None:
    with pytest.raises(PqdError, match="list of quantizers"):
        read_placement(tensor)


# --- the graph of integers


class Rounded(nn.Module):
    """A convolution, a batch norm and a pool, a shared convolution without one, a linear layer; all on grids."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.again, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 16, 10)
        self.grids = nn.ModuleList(OnTensorGrid(step, zero, 256) for step, zero in ((0.02, 100), (0.03, 0), (0.05, 90)))
        layers = (self.conv, self.again, self.head)
        self.weights = nn.ModuleList(OnChannelGrid(steps(layer.weight), 0, -127, 127) for layer in layers)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor([1.0, -0.5, 0.0, 2.0]))
            self.norm.running_mean.normal_()
            self.norm.bias.fill_(0.1)
            self.again.bias.zero_()  # the same number in the units of both calls

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(self.grids[0](x), self.weights[0](self.conv.weight), padding=1)
        x = nn.functional.max_pool2d(self.grids[1](torch.relu(self.norm(x))), 2)
        for _ in range(2):
            x = self.grids[2](self.again._conv_forward(x, self.weights[1](self.again.weight), self.again.bias))
        x = self.dropout(torch.flatten(x, 1))
        return nn.functional.linear(x, self.weights[2](self.head.weight), self.head.bias)


def steps(weight: Tensor) -> Tensor:
    return weight.detach().abs().flatten(1).amax(1) / 127


@pytest.fixture(scope="module")
def graph() -> torch.fx.GraphModule:
    return integer_graph(Rounded(), torch.zeros(2, 1, 8, 8))


@torch.no_grad()
def test_the_graph_of_integers_computes_what_the_network_with_whole_biases_did(graph: torch.fx.GraphModule) -> None:
    network = Rounded().eval()
    before = network(images(64))
    round_biases(network, torch.zeros(2, 1, 8, 8))
    assert (graph(images(64)) - network(images(64))).abs().max() < 1e-6
    assert (graph(images(64)) - before).abs().max() > 1e-5


def test_every_bias_is_a_whole_number_of_products_of_steps(graph: torch.fx.GraphModule) -> None:
    layers = [node for target in LAYERS for node in graph.graph.find_nodes(op="call_function", target=target)]
    assert len(layers) == 4
    for layer in layers:
        source, weight, bias = layer.args[:3]
        steps = graph.get_buffer(weight.args[1].target).double() * source.args[1]
        whole = graph.get_parameter(bias.target).double() / steps
        assert (whole - whole.round()).abs().max() < 1e-3 * whole.abs().max().clamp(min=1)
        assert (whole - whole.round()).abs().median() < 1e-2


def test_every_weight_is_stored_as_int8_under_its_own_name(graph: torch.fx.GraphModule) -> None:
    stored = {name for name, tensor in graph.state_dict().items() if tensor.dtype == torch.int8}
    assert stored == {"conv.weight", "again.weight", "again.weight_", "head.weight"}
    assert not [name for name, tensor in graph.named_parameters() if tensor.dim() > 1]


def test_a_batch_norm_goes_into_the_layer_before_it(graph: torch.fx.GraphModule) -> None:
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default)
    assert graph.get_parameter("conv.bias").shape == (4,)
    assert not graph.conv.weight[2].any(), "a channel that is switched off leaves the bias its room"


def test_what_an_operator_moves_is_on_the_same_grid_behind_it(graph: torch.fx.GraphModule) -> None:
    for target in (torch.ops.aten.max_pool2d.default, torch.ops.aten.flatten.using_ints):
        [node] = graph.graph.find_nodes(op="call_function", target=target)
        [behind] = node.users
        assert behind.target is Q.quantize_per_tensor.default
        assert behind.args[1:] == node.args[0].args[1:]
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.aten.dropout.default)
