"""Networks in memory: built, given weights, and rebuilt from what an artifact says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from attrs import define
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pqd_core.data import DataInfo
from pqd_core.host.contract import check_model
from pqd_core.host.entries import Entry
from pqd_core.host.errors import DataError, PqdError, Problem, StageError, did_you_mean

if TYPE_CHECKING:
    from pqd_core.artifact import Artifact
    from pqd_core.context import RunContext
    from pqd_core.plan import Step

WEIGHTS = "weights.safetensors"
EVIDENCE = "evidence.safetensors"
Facts = dict[str, dict[str, Tensor]]


@define
class Network:
    """A model and what is known to hold of it."""

    model: nn.Module
    facts: Facts


def build_network(backbone: Entry, info: DataInfo, seed: int) -> nn.Module:
    """A new network for `info`; the same seed gives the same initial weights.

    Raises:
        DataError: the backbone cannot be built for this data.
    """
    torch.manual_seed(seed)
    try:
        model = backbone.record.implementation().build(backbone.settings, info)
    except PqdError:
        raise
    except (Exception, SystemExit) as error:
        what = f"cannot be built ({type(error).__name__}: {error})"
        raise DataError(Problem(f"backbone.{backbone.name}", what, "the whole error is in log.jsonl")) from error
    if not isinstance(model, nn.Module):
        raise DataError(Problem(f"backbone.{backbone.name}", f"gave a {type(model).__name__}, not a torch.nn.Module"))
    return model


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: safetensors, or a state dict (bare, or under `state_dict` or `model`).

    Raises:
        DataError: it is damaged, or holds anything but tensors; nothing in it is executed.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # torch's restricted unpickler raises its own types, which have changed names
        raise _unreadable(path, error) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise DataError(Problem(str(path), "is no state dict", "save it with torch.save(model.state_dict(), path)"))
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [""])[0][:160]
    hint = "save it as safetensors, or with torch.save(model.state_dict(), path)"
    return DataError(Problem(str(path), f"is no readable checkpoint ({type(error).__name__}: {reason})", hint))


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """`model` holds exactly `weights`.

    Raises:
        DataError: names or shapes differ; all differences at once (the first ten of each kind).
    """
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    problems = [Problem(source, f"has no {name}") for name in missing[:10]]
    problems += [
        Problem(source, f"has {name}, which the network has not", did_you_mean(name, missing)) for name in extra[:10]
    ]
    problems += [
        Problem(source, f"{name} is {tuple(weights[name].shape)}, the network's is {tuple(own[name].shape)}")
        for name in sorted(shapes)[:10]
    ]
    if problems:
        raise DataError(*problems)
    model.load_state_dict(dict(weights))


def network_state(network: Network) -> dict[str, dict[str, Tensor]]:
    """The tensors to save, by file: the model's state and the evidence of its facts."""
    evidence = {f"{fact}:{name}": t for fact, tensors in network.facts.items() for name, t in tensors.items()}
    return {WEIGHTS: _separate(network.model.state_dict()), EVIDENCE: _separate(evidence)}


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def read_evidence(artifact: Artifact) -> Facts:
    """The evidence of each fact that holds of an artifact."""
    facts: Facts = {fact: {} for fact in artifact.about["facts"]}
    for name, tensor in artifact.tensors(EVIDENCE).items():
        fact, _, key = name.partition(":")
        facts[fact][key] = tensor
    return facts


def rebuild(artifact: Artifact, step: Step, context: RunContext) -> Network:
    """The network that an artifact holds: its backbone, restructured stage by stage, with its weights."""
    network = Network(build_network(context.spec.backbone, context.info, step.seed), read_evidence(artifact))
    for passed in context.plan.path_to(step):
        if passed.stage:
            stage_context = context.stage_context(passed, network.facts)
            with _blaming(passed.stage, "restructure"):
                stage = passed.stage.record.implementation()
                model = stage.restructure(network.model, passed.stage.settings, stage_context)
                network.model = check_model(model, passed, "restructure")
    load_weights(network.model, artifact.tensors(WEIGHTS), str(artifact.folder / WEIGHTS))
    network.model.eval()
    return network


def freeze(network: Network, step: Step, context: RunContext) -> nn.Module:
    """The form to deploy: each stage behind the network turns its training form into the deployed form, in order."""
    model = network.model
    model.eval()
    for passed in context.plan.path_to(step):
        if passed.stage:
            with _blaming(passed.stage, "freeze"):
                model = check_model(passed.stage.record.implementation().freeze(model), passed, "freeze")
    return model


@contextmanager
def _blaming(stage: Entry, duty: str) -> Iterator[None]:
    """What a stage raises on the way names the stage."""
    try:
        yield
    except PqdError:
        raise
    except Exception as error:
        who = f"plugin {stage.plugin}, version {stage.record.version}"
        what = f"cannot {duty} the model ({type(error).__name__}: {error}; {who})"
        raise StageError(Problem(stage.name, what, "the whole error is in log.jsonl")) from error
