"""What flows inside a network, for networks of modules and for their traced graphs alike, by layer name.

A traced graph has no modules to hook, but each of its nodes knows which modules it comes from. The output of a layer is
then the last value that was computed inside of it, before it is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils.hooks import RemovableHandle

Seen = dict[str, Tensor]


class Tap(nn.Module):
    """Passes a value on and remembers it."""

    def __init__(self, layer: str, seen: Seen) -> None:
        super().__init__()
        self.layer, self.seen = layer, seen

    def forward(self, value: Tensor) -> Tensor:
        """`value`."""
        self.seen[self.layer] = value
        return value


def layer_names(model: nn.Module) -> list[str]:
    """The layers whose output can be tapped: modules, or what a graph was traced from."""
    if isinstance(model, GraphModule):
        return list(_last_nodes(model))
    return [name for name, _ in model.named_modules() if name]


@contextmanager
def tapped(model: nn.Module, layers: Sequence[str]) -> Iterator[Seen]:
    """Each forward pass of `model` leaves the outputs of `layers` here; afterwards the model is as it was."""
    seen: Seen = {}
    with _tapped_graph(model, layers, seen) if isinstance(model, GraphModule) else _hooked(model, layers, seen):
        yield seen


@contextmanager
def _hooked(model: nn.Module, layers: Sequence[str], seen: Seen) -> Iterator[None]:
    def remember(layer: str, output: Tensor) -> None:
        seen.pop(layer, None)  # so that the order is that of the last calls
        seen[layer] = output

    def hook(layer: str) -> RemovableHandle:
        return model.get_submodule(layer).register_forward_hook(lambda part, inputs, out: remember(layer, out))

    handles = [hook(layer) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _tapped_graph(model: GraphModule, layers: Sequence[str], seen: Seen) -> Iterator[None]:
    last = _last_nodes(model)
    taps = [_insert(model, last[layer], f"_tap_{i}", Tap(layer, seen)) for i, layer in enumerate(layers)]
    model.recompile()
    try:
        yield
    finally:
        for tap in taps:
            tap.replace_all_uses_with(tap.all_input_nodes[0])
            model.graph.erase_node(tap)
            delattr(model, str(tap.target))
        model.recompile()


def _insert(model: GraphModule, node: Node, name: str, tap: Tap) -> Node:
    model.add_submodule(name, tap)
    with model.graph.inserting_after(node):
        call = model.graph.call_module(name, (node,))
    node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    return call


def _last_nodes(model: GraphModule) -> Mapping[str, Node]:
    """For each module that the graph was traced through, the last node that comes from it."""
    last: dict[str, Node] = {}
    for node in model.graph.nodes:
        for path, _ in (node.meta.get("nn_module_stack") or {}).values():
            if path:
                last[path] = node
    return last
