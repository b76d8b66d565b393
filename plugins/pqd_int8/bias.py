"""Biases: integer runtimes add them as whole numbers.

What a convolution or linear layer adds up are products of integers, each worth (input step x weight step). Its bias
joins them as an int32 in that unit. The rounding moves every output of a channel by the same, up to half a unit, which
is far more than the last bits of a float sum, and enough that some of the outputs are rounded otherwise. So the network
is simulated with it, and the file gets the bias that was simulated.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

from pqd_int8.fake_quant import ActivationFakeQuant, WeightFakeQuant
from pqd_int8.fold import (
    affine_of,
    bias_of,
    is_between_grids,
    is_only_reader,
    quantized_layers,
    read_weight,
    weight_name,
)
from pqd_int8.quantizer import A, batch_norm_after, called, origin
from pqd_int8.target import FULL

LARGEST_BIAS = 2**30
"""In units; this leaves half of int32's range to the sums."""


class BiasRounding(nn.Module):
    """Stands behind a layer, or behind its batch norm, and moves the outputs as far as rounding moves the bias.

    It does so once the input's range and the batch norm's statistics stand still. While they follow each batch the
    unit is another one in every step, and there is nothing to get used to.
    """

    def __init__(
        self, source: ActivationFakeQuant, rounded: WeightFakeQuant | None, norm: _BatchNorm | None, axis: int
    ) -> None:
        super().__init__()
        self.others = source, rounded, norm
        """Parts that the graph owns; in a tuple they are not registered as this module's own."""
        self.axis = axis

    def forward(self, outputs: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """`outputs` (N, ...), changed in place, of the layer with this weight and bias."""
        if self._rounds():
            shape = [1] * outputs.dim()
            shape[self.axis] = -1
            outputs.add_(self.shift(weight, bias).view(shape))
        return outputs

    def _rounds(self) -> bool:
        source, rounded, norm = self.others
        still = not source.training and not (norm is not None and norm.training)
        return still and source.rounds and (rounded is None or rounded.rounds)

    @torch.no_grad()
    def shift(self, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """What rounding adds to the bias of each channel, its batch norm folded in, shape (channels,)."""
        source, rounded, norm = self.others
        one = torch.ones(1, device=source.scale.device)
        factor, offset = affine_of(norm) if norm is not None else (one, one - 1)
        steps = rounded.steps_of(weight) if rounded is not None and weight is not None else one / FULL.high
        whole_bias = offset if bias is None else offset + bias * factor
        return (in_units(whole_bias, source.scale * steps * factor.abs()) - whole_bias).float()


def in_units(bias: Tensor, unit: Tensor) -> Tensor:
    """`bias` as a whole number of units, in float64; as it was where int32 has no room for that number."""
    count = (bias.double() / unit).round()
    return torch.where(count.abs() < LARGEST_BIAS, count * unit, bias.double())


def round_biases(model: GraphModule) -> None:
    """Each quantized layer with a bias, its own or its batch norm's, is followed by its rounding.

    A layer that is called several times is left out: its one bias has several units.
    """
    for number, (last, rounding, parameters) in enumerate(list(_roundings(model))):
        name = f"_bias_rounding_{number}"
        model.add_submodule(name, rounding)
        with model.graph.inserting_after(last):
            call = model.graph.call_module(name, (last, *parameters))
        call.meta = dict(last.meta)
        last.replace_all_uses_with(call)
        call.args = (last, *parameters)
    model.recompile()


def _roundings(model: GraphModule) -> Iterator[tuple[Node, BiasRounding, tuple[Node, ...]]]:
    """The node whose result is moved, what moves it, and the layer's weight and bias."""
    folded = set()
    for node in quantized_layers(model):
        source, rounded = called(origin(node.args[0], model), model), called(node.args[1], model)
        last = batch_norm_after(node, model) or node
        norm = called(last, model)
        folded.add(last)
        if not isinstance(source, ActivationFakeQuant) or not is_only_reader(node):
            continue
        assert isinstance(rounded, WeightFakeQuant)
        parameters = (read_weight(node).all_input_nodes[0], *(arg for arg in node.args[2:3] if isinstance(arg, Node)))
        if norm is not None or len(parameters) > 1:
            axis = -1 if node.target is A.linear.default else 1
            yield last, BiasRounding(source, rounded, norm if isinstance(norm, _BatchNorm) else None, axis), parameters
    for node in model.graph.nodes:
        norm = called(node, model)
        if node not in folded and isinstance(norm, nn.BatchNorm2d) and is_between_grids(node, model):
            source = called(node.args[0], model)
            assert isinstance(source, ActivationFakeQuant)
            yield node, BiasRounding(source, None, norm, 1), ()


def drop_roundings(model: GraphModule) -> None:
    """The biases are as they were: the graph that `round_biases` was given."""
    for node in list(model.graph.nodes):
        if isinstance(called(node, model), BiasRounding):
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)
            model.delete_submodule(str(node.target))
    model.recompile()


@torch.no_grad()
def fix_units(model: GraphModule) -> None:
    """Each weight quantizer knows the steps of its weight, and each bias is a whole number of units.

    No step is so small that the bias would overflow 32 bits. That is the fate of channels that training has all but
    switched off: next to their bias the weights count for nothing, and they round to zero.
    """
    for node in quantized_layers(model):
        rounded, bias = called(read_weight(node), model), bias_of(model, node)
        source = called(origin(node.args[0], model), model)
        assert isinstance(rounded, WeightFakeQuant)
        rounded.steps = rounded.steps_of(model.get_parameter(weight_name(node)))
        if bias is not None and isinstance(source, ActivationFakeQuant):
            rounded.steps = torch.maximum(rounded.steps, bias.abs() / (source.scale * LARGEST_BIAS))
            if is_only_reader(node):
                bias.copy_(in_units(bias, source.scale * rounded.steps))
