"""What is asked of runtimes: to write a file that answers as its model does, wherever it lies."""

from __future__ import annotations

import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import nn

from pqd_core.deploy import Operator
from pqd_core.records import RuntimeDef, StageDef
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.starts import Residual
from pqd_core.testing.state import watched
from pqd_core.testing.trial import trial
from pqd_core.testing.workshop import Workshop, refusals, workshop

SHAPE, CLASSES = (1, 8, 8), 3
WEIGHTS = {"stem.0": 72, "conv1": 576, "conv2": 576, "widen": 128, "head": 768}
"""How many weights each layer has."""
TOLERANCE = 1e-3


def _model() -> Residual:
    """A network whose batch norms have seen something, and of which every second weight is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Residual(SHAPE[0], CLASSES)
        model.train()(torch.randn(64, *SHAPE))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(torch.rand(parameter.shape) < 0.5)
    return model.eval()


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, *SHAPE)).astype(np.float32)


def _expected(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        logits: np.ndarray = model(torch.from_numpy(images)).numpy()
    return logits


@frozen
class _Exported:
    """A network and the file that the runtime made of it."""

    model: nn.Module
    folder: Path
    file: Path
    model_changed: bool


def _export(shop: Workshop, model: nn.Module) -> _Exported:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folder, shared = shop.new_folder("deployed"), shop.new_folder("shared")
    implementation = shop.case.component.implementation()
    file = implementation.export(model, torch.zeros(2, *SHAPE), folder, shared, shop.settings)
    after = model.state_dict()
    same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    return _Exported(model, folder, Path(file), not same or model.training)


def _exported(case: Case) -> _Exported:
    shop = workshop(case)
    if _Exported not in shop.shared:
        with watched() as changes:
            shop.shared[_Exported] = _export(shop, _model())
        shop.shared["process changes"] = changes
    found: _Exported = shop.shared[_Exported]
    return found


def _run(case: Case, file: Path, images: np.ndarray, batch: int | None = None) -> np.ndarray:
    shop = workshop(case)
    session = case.component.implementation().open_session(file, 1, shop.settings, batch)
    try:
        logits: np.ndarray = session(images)
    finally:
        session.close()
    return logits


@check(RuntimeDef)
def file_lies_in_its_folder(case: Case) -> None:
    """`export` gives back a file that exists below the folder that it was handed."""
    exported = _exported(case)
    require(exported.file.exists(), f"export gave back {exported.file}, which is not there")
    require(exported.file.resolve().is_relative_to(exported.folder.resolve()), f"{exported.file} is not in the folder")


@check(RuntimeDef)
def file_answers_as_its_model(case: Case) -> None:
    """For any number of images the file gives the logits of the model, float32 (N, classes)."""
    exported = _exported(case)
    for count in (1, 2, 5):
        images = _images(count)
        got, expected = _run(case, exported.file, images), _expected(exported.model, images)
        _require_same(got, expected, f"for {count} images")
        require(np.array_equal(images, _images(count)), "the session has changed the images that it was given")


def _require_same(got: Any, expected: np.ndarray, when: str) -> None:
    require(isinstance(got, np.ndarray), f"gives a {type(got).__name__} {when}, not an array of numpy")
    require(got.shape == expected.shape, f"gives {got.shape} {when}, expected {expected.shape}")
    require(got.dtype == np.float32, f"gives {got.dtype} {when}, expected float32")
    worst = float(np.abs(got - expected).max())
    require(worst <= TOLERANCE, f"is {worst:.2g} away from the model {when}")


@check(RuntimeDef)
def fixed_batch_answers_alike(case: Case) -> None:
    """A session for a fixed batch gives the same logits."""
    exported, images = _exported(case), _images(4)
    _require_same(_run(case, exported.file, images, 4), _expected(exported.model, images), "with a fixed batch of 4")


@check(RuntimeDef)
def file_can_be_moved(case: Case) -> None:
    """The folder runs as well from another place, as it does in a run folder."""
    exported = _exported(case)
    elsewhere = workshop(case).new_folder("elsewhere") / "moved"
    shutil.copytree(exported.folder, elsewhere)
    images = _images(2)
    got = _run(case, elsewhere / exported.file.relative_to(exported.folder), images)
    _require_same(got, _expected(exported.model, images), "after it was moved")


@check(RuntimeDef)
def weights_are_those_of_the_layers(case: Case) -> None:
    """`weights` gives one array for each convolution and linear layer, by the layer's name, with its zeros."""
    exported = _exported(case)
    weights = case.component.implementation().weights(exported.file)
    require(weights.keys() == WEIGHTS.keys(), f"gives {sorted(weights)}, expected {sorted(WEIGHTS)}")
    for name, size in WEIGHTS.items():
        zeros = int((exported.model.get_parameter(f"{name}.weight") == 0).sum())
        require(weights[name].size == size, f"{name} has {weights[name].size} weights, expected {size}")
        found = int((weights[name] == 0).sum())
        require(found == zeros, f"{name} has {found} zeros, expected {zeros}")


@check(RuntimeDef)
def what_is_run_can_be_told(case: Case) -> None:
    """`execution`, if there is one, gives the `Operator`s; told an image's shape, if it takes it, the same ones."""
    exported, implementation = _exported(case), case.component.implementation()
    if not hasattr(implementation, "execution"):
        return
    told = list(implementation.execution(exported.file, workshop(case).settings))
    require(all(isinstance(one, Operator) for one in told), "execution gives something else than Operators")
    require(any(one.macs for one in told), "no operator of execution multiplies by a weight")
    if "shape" in signature(implementation.execution).parameters:
        again = list(implementation.execution(exported.file, workshop(case).settings, shape=SHAPE))
        require(again == told, "execution tells something else where it is told the shape that the file has anyway")


@check(RuntimeDef)
def exporting_leaves_the_model_alone(case: Case) -> None:
    """The model that was exported is the model that it was."""
    require(not _exported(case).model_changed, "export has changed the model; other runtimes export it too")


@check(RuntimeDef)
def exporting_leaves_the_process_alone(case: Case) -> None:
    """Environment, folder, log handlers, all random states and torch's settings come back as they were."""
    _exported(case)
    changes = workshop(case).shared["process changes"]
    require(not changes, f"exporting changed {', '.join(changes)}")


@check(RuntimeDef)
def takes_or_refuses_quantized_models(case: Case) -> None:
    """A network in INT8 is exported and agrees with its simulation, or is refused with a reason."""
    model = _quantized(case)
    try:
        file = _export(workshop(case), model).file
    except Exception as error:
        require(str(error).strip(), f"refused a model in INT8 by a {type(error).__name__} without a word")
        return
    images = _images(64)
    same = (_run(case, file, images).argmax(1) == _expected(model, images).argmax(1)).mean()
    require(same >= 0.95, f"the file of a model in INT8 predicts another class for {1 - same:.0%} of the images")


def _quantized(case: Case) -> nn.Module:
    from pqd_core.testing import starts

    record = next(record for record in starts.pqd_stages() if record.name == "toy-fake-quant")
    assert isinstance(record, StageDef)
    return trial(_as_stage(record), backbone="toy-net").frozen()


def _as_stage(record: StageDef) -> Case:
    """One case for all runtimes, so that the model is made once."""
    return _stages.setdefault(record.name, Case(record))


_stages: dict[str, Case] = {}


@check(RuntimeDef)
def refuses_other_files_with_a_reason(case: Case) -> None:
    """A file of something else is refused by a `PqdError`, and never run."""
    exported, shop = _exported(case), workshop(case)
    other = shop.new_folder("other") / exported.file.name
    other.write_bytes(b"this is no model\n" * 9)
    with refusals("a file of something else") as reasons:
        _run(case, other, _images(1))
    require(reasons, "opened and ran a file of something else")
