from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench
from light import Nudge, NudgeSettings, stage_record
from pydantic import Field
from torch import nn

from pqd_core import DataError, Settings, StageContext
from pqd_core.artifact import Store, read_manifest
from pqd_core.context import RunContext
from pqd_core.model import freeze, rebuild
from pqd_core.plan import Step, build_plan
from pqd_core.testing.toys import ToyNet

Walked = tuple[RunContext, list[Step]]


@pytest.fixture
def walk(bench: Bench) -> Callable[..., Walked]:
    """Runs a spec's steps; the context and the steps, whose artifacts are in the store."""

    def run(*stages: Any, **changes: Any) -> Walked:
        spec = bench.spec(stages=list(stages), **changes)
        bench.run(spec)
        context = RunContext(build_plan(spec, bench.host), Store(bench.store), bench.host)
        return context, list(context.plan.steps)

    return run


def artifact(context: RunContext, step: Step) -> Any:
    found = context.store.find("steps", step.key)
    assert found is not None
    return found


class GrowSettings(Settings):
    channels: int = Field(2, ge=1, description="How many more.")


class Grow(Nudge):
    """Changes the structure, deterministically, and trains what it added."""

    @staticmethod
    def restructure(model: nn.Module, settings: Any, context: StageContext) -> nn.Module:
        model.grown = nn.Conv2d(context.info.shape[0], settings.channels, 3)
        return model

    @staticmethod
    def run(model: nn.Module, settings: Any, context: StageContext) -> nn.Module:
        nn.init.constant_(model.get_parameter("grown.weight"), 0.25)
        return model

    @staticmethod
    def freeze(model: nn.Module) -> nn.Module:
        del model.grown
        return model


@pytest.fixture
def growing(bench: Bench) -> None:
    bench.host.add("given", stage_record("grow", Grow, settings=GrowSettings))


# --- artifacts


def test_an_artifact_says_what_was_asked_and_where_it_came_from(walk: Any) -> None:
    context, steps = walk({"use": "nudge", "by": 0.5, "epochs": 3}, seed=4)
    about = artifact(context, steps[1]).about
    assert about["pipeline"] == ["nudge"]
    assert about["parent"] == steps[0].key
    assert about["stage"] == {"use": "light:nudge", "epochs": 3, "by": 0.5, "pause_s": 0.0}
    assert (about["epochs"], about["seed"]) == (3, 4)
    assert about["facts"] == ["plain-modules", "trainable"]
    assert [entry["epoch"] for entry in about["history"]] == [1, 2, 3]
    assert [link["key"] for link in about["lineage"]] == [step.key for step in steps]
    assert about["lineage"][0]["stage"] == {"backbone": {"use": "toys:toy-net"}}


def test_an_artifact_is_json_and_safetensors_and_nothing_else(walk: Any) -> None:
    context, steps = walk("nudge")
    for step in steps:
        folder = artifact(context, step).folder
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        read_manifest(folder, step.key)
        json.loads((folder / "manifest.json").read_text())


@pytest.mark.usefixtures("growing")
def test_a_network_is_rebuilt_with_its_structure_and_its_weights(walk: Any) -> None:
    context, steps = walk("grow", {"use": "nudge", "epochs": 1}, {"use": "grow", "channels": 5})
    last = rebuild(artifact(context, steps[3]), steps[3], context).model
    assert last.get_parameter("grown.weight").shape == (5, 1, 3, 3)
    assert bool((last.get_parameter("grown.weight") == 0.25).all())
    before = rebuild(artifact(context, steps[1]), steps[1], context).model
    assert before.get_parameter("grown.weight").shape == (2, 1, 3, 3)
    assert not before.training


@pytest.mark.usefixtures("growing")
def test_the_frozen_form_has_nothing_of_the_training_form(walk: Any) -> None:
    context, steps = walk("grow")
    network = rebuild(artifact(context, steps[1]), steps[1], context)
    assert not hasattr(freeze(network, steps[1], context), "grown")


def test_what_a_stage_did_to_the_model_is_what_is_saved(walk: Any) -> None:
    context, steps = walk({"use": "nudge", "by": 0.0, "epochs": 1})
    first, second = (artifact(context, step).tensors("weights.safetensors") for step in steps)
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- what a stage is handed


def handed(bench: Bench, look: Callable[[nn.Module, StageContext], Any], **changes: Any) -> Any:
    """What `look` saw in a stage's `run`."""
    seen: list[Any] = []

    class Looks(Nudge):
        @staticmethod
        def run(model: nn.Module, settings: Any, context: StageContext) -> nn.Module:
            seen.append(look(model, context))
            return model

    bench.host.add("given", stage_record("look", Looks))
    bench.run(bench.spec(stages=[{"use": "nudge", "epochs": 1}, {"use": "look", "epochs": 7}], **changes))
    return seen[0]


def test_a_stage_knows_its_epochs_its_seed_its_device_and_its_data(bench: Bench) -> None:
    context: StageContext = handed(bench, lambda model, context: context, seed=9)
    assert (context.epochs, context.seed, context.device.type) == (7, 9, "cpu")
    assert context.info.name == "toy-blobs"
    assert context.example.shape == (2, 1, 8, 8)
    assert context.example.dtype == torch.float32
    assert len(context.data.train) == 216
    assert len(context.data.validation or []) == 24


def test_the_baseline_is_a_fresh_copy_each_time(bench: Bench) -> None:
    def look(model: nn.Module, context: StageContext) -> Any:
        first = context.baseline()
        nn.init.zeros_(first.get_parameter("conv.weight"))
        return context.baseline(), model

    baseline, model = handed(bench, look)
    assert not baseline.training
    assert bool((baseline.get_parameter("conv.weight") != 0).any())
    assert not torch.equal(baseline.get_parameter("conv.weight"), model.get_parameter("conv.weight"))


def test_another_network_can_be_built_with_the_weights_of_a_checkpoint(bench: Bench) -> None:
    torch.manual_seed(3)
    state = ToyNet(1, 3).state_dict()
    torch.save(state, bench.folder / "teacher.pt")

    def look(model: nn.Module, context: StageContext) -> Any:
        backbone = bench.spec().backbone
        return context.build(backbone, bench.folder / "teacher.pt"), context.build(backbone, None)

    teacher, fresh = handed(bench, look)
    assert torch.equal(teacher.get_parameter("conv.weight"), state["conv.weight"])
    assert not torch.equal(fresh.get_parameter("conv.weight"), state["conv.weight"])
    assert not teacher.training


def test_a_teacher_whose_checkpoint_does_not_fit_is_told(bench: Bench) -> None:
    torch.save(ToyNet(1, 9).state_dict(), bench.folder / "teacher.pt")
    backbone = bench.spec().backbone
    with pytest.raises(DataError, match=r"teacher\.pt: head\.bias is \(9,\), the network's is \(3,\)"):
        handed(bench, lambda model, context: context.build(backbone, bench.folder / "teacher.pt"))


def test_randomness_of_a_stage_starts_from_the_seed_whatever_came_before(bench: Bench) -> None:
    draws: list[torch.Tensor] = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(draws))
        bench.host.add("given", stage_record("look", version=str(len(draws))))
        draws.append(handed(bench, lambda model, context: torch.rand(3), seed=seed))
        _forget(bench.store)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def _forget(store: Path) -> None:
    import shutil

    shutil.rmtree(store / "steps")


def test_evidence_moves_to_the_device_of_the_model(bench: Bench) -> None:
    context: StageContext = handed(bench, lambda model, context: context)
    context.give("sparse", {"conv.weight": torch.ones(8, 1, 3, 3)})
    context.move_facts()
    assert context.facts["sparse"]["conv.weight"].device.type == "cpu"


def test_settings_reach_a_stage_as_its_own_type(bench: Bench) -> None:
    seen: list[Any] = []

    class Looks(Nudge):
        @staticmethod
        def run(model: nn.Module, settings: Any, context: StageContext) -> nn.Module:
            seen.append(settings)
            return model

    bench.host.add("given", stage_record("look", Looks))
    bench.run(bench.spec(stages=[{"use": "look", "by": "0.75"}]))
    assert type(seen[0]) is NudgeSettings
    assert seen[0] == NudgeSettings(by=0.75)
