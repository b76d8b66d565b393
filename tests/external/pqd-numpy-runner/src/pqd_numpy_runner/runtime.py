"""Export through torch.export's graph; running needs numpy and safetensors only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from pqd_core import DeployError, Problem
from pqd_numpy_runner.operators import OPERATORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pqd_numpy_runner import NumpySettings

FORMAT = "pqd-numpy-1"
LAYERS = ("conv2d.default", "linear.default")


def export(model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: NumpySettings) -> Path:
    """`model.safetensors`: every tensor, and the operations as JSON in its header.

    Raises:
        DeployError: the network has an operator that there is none for here.
    """
    import torch

    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    inputs = program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    names = {**inputs.inputs_to_parameters, **inputs.inputs_to_buffers, **inputs.inputs_to_lifted_tensor_constants}
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    steps = [
        {"gives": call.name, "does": _known(call.target), "with": [_written(a, names) for a in call.args]}
        for call in calls
    ]
    arrays = {name: tensors[name].detach().contiguous().numpy() for name in sorted(set(names.values()))}
    graph = {"input": inputs.user_inputs[0], "output": inputs.user_outputs[0], "steps": steps}
    file = folder / "model.safetensors"
    save_file(arrays, file, metadata={"format": FORMAT, "graph": json.dumps(graph)})
    return file


def _known(target: Any) -> str:
    name = str(target).removeprefix("aten.")
    if name not in OPERATORS:
        raise DeployError(Problem("numpy", f"has no operator {target}", f"it has {', '.join(sorted(OPERATORS))}"))
    return name


def _written(argument: Any, names: dict[str, str]) -> Any:
    """A reference as a mapping, anything else as JSON has it."""
    if hasattr(argument, "op"):
        return {"tensor": names[argument.name]} if argument.name in names else {"step": argument.name}
    if isinstance(argument, list | tuple):
        return list(argument)
    return argument


class Session:
    """A network in memory."""

    def __init__(self, arrays: dict[str, np.ndarray], graph: dict[str, Any]) -> None:
        self.arrays, self.graph = arrays, graph

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes)."""
        values = {self.graph["input"]: images}
        for step in self.graph["steps"]:
            arguments = [self._value(argument, values) for argument in step["with"]]
            values[step["gives"]] = OPERATORS[step["does"]](*arguments)
        logits: np.ndarray = values[self.graph["output"]].astype(np.float32, copy=False)
        return logits

    def _value(self, argument: Any, values: dict[str, np.ndarray]) -> Any:
        if isinstance(argument, dict):
            return self.arrays[argument["tensor"]] if "tensor" in argument else values[argument["step"]]
        return argument

    def close(self) -> None:
        """Memory goes with the session."""


def open_session(file: Path, threads: int, settings: NumpySettings, batch: int | None = None) -> Session:
    """The network; numpy's own threads are those of the process.

    Raises:
        DeployError: the file is none of this runtime.
    """
    if file.stat().st_size > settings.max_megabytes * 2**20:
        raise DeployError(Problem(str(file), f"has more than {settings.max_megabytes} MB", "raise max_megabytes"))
    graph = _graph(file)
    return Session(load_file(file), graph)


def _graph(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, "numpy") as opened:
            about = opened.metadata() or {}
        if about.get("format") != FORMAT:
            raise DeployError(Problem(str(file), "was not written by this runtime", "deploy it again"))
        graph: dict[str, Any] = json.loads(about["graph"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DeployError(Problem(str(file), f"cannot be read: {error}", "deploy it again")) from error
    return graph


def weights(file: Path) -> dict[str, np.ndarray]:
    """The weight of each convolution and linear layer, by the layer's name."""
    used = [step["with"][1]["tensor"] for step in _graph(file)["steps"] if step["does"] in LAYERS]
    arrays = load_file(file)
    return {name.removesuffix(".weight"): arrays[name] for name in used}
