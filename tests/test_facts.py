from __future__ import annotations

import pytest
import torch
from attrs import evolve
from bench import Bench
from light import Nudge, stage_record
from torch import nn

from pqd_core import StageContext
from pqd_core.facts import (
    FACTS,
    FakeQuantizer,
    hold_sparse,
    probe_fake_quant,
    probe_plain_modules,
    probe_sparse,
    probe_trainable,
)
from pqd_core.host.errors import ContractError
from pqd_core.records import FactDef, resolve
from pqd_core.testing.toys import ToyNet


@pytest.fixture
def net() -> ToyNet:
    torch.manual_seed(0)
    return ToyNet(1, 3)


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.rand(8, 1, 3, 3, generator=torch.Generator().manual_seed(1)) > 0.5


def test_every_shared_fact_has_a_probe_that_loads() -> None:
    for fact in FACTS.values():
        assert callable(resolve(fact.probe))
        assert fact.summary


def test_a_model_is_trainable_while_one_parameter_takes_a_gradient(net: ToyNet) -> None:
    assert probe_trainable(net, {}) == []
    net.requires_grad_(False)
    assert probe_trainable(net, {}) == ["no parameter takes a gradient"]
    net.head.bias.requires_grad_(True)
    assert probe_trainable(net, {}) == []


def test_a_traced_part_is_no_plain_module_and_is_named(net: ToyNet) -> None:
    assert probe_plain_modules(net, {}) == []
    assert probe_plain_modules(nn.Sequential(net, torch.fx.symbolic_trace(nn.ReLU())), {}) == ["1 is a traced graph"]
    assert probe_plain_modules(torch.fx.symbolic_trace(net), {}) == ["the model is a traced graph"]


def test_a_mask_that_holds_is_sparse(net: ToyNet, mask: torch.Tensor) -> None:
    masks = {"conv.weight": mask}
    assert probe_sparse(net, masks) == [f"conv.weight: {int((~mask).sum())} pruned weights are no longer zero"]
    hold_sparse(net, masks)
    assert probe_sparse(net, masks) == []
    assert not net.conv.weight[~mask].signbit().any()  # a zero with a sign is a bit more to compress
    kept = net.conv.weight.detach()[mask]
    assert (kept != 0).all()


def test_one_weight_that_came_back_is_seen(net: ToyNet, mask: torch.Tensor) -> None:
    masks = {"conv.weight": mask.float()}
    hold_sparse(net, masks)
    with torch.no_grad():
        net.conv.weight[~mask] += torch.eye(int((~mask).sum()))[0] * 1e-30
    assert probe_sparse(net, masks) == ["conv.weight: 1 pruned weights are no longer zero"]


def test_a_masked_weight_that_is_gone_and_a_missing_mask_are_seen(net: ToyNet, mask: torch.Tensor) -> None:
    assert probe_sparse(net, {"other.weight": mask}) == ["other.weight is gone"]
    assert probe_sparse(net, {}) == ["no mask was left as evidence"]


def test_fake_quantization_is_found_anywhere_in_the_model(net: ToyNet) -> None:
    from torchao.quantization.pt2e import FakeQuantize

    assert probe_fake_quant(net, {}) == ["no fake quantization in the model"]
    net.head.add_module("quant", FakeQuantize())
    assert probe_fake_quant(net, {}) == []


class Rounding(torch.nn.Module):
    """What another library might bring."""


def test_a_class_of_another_library_counts_as_fake_quantization_once_it_is_registered(net: ToyNet) -> None:
    net.head.add_module("rounding", Rounding())
    assert probe_fake_quant(net, {}) == ["no fake quantization in the model"]
    FakeQuantizer.register(Rounding)
    assert probe_fake_quant(net, {}) == []


def test_a_network_with_fake_quantizers_is_not_made_of_plain_modules_alone(net: ToyNet) -> None:
    from torchao.quantization.pt2e import FakeQuantize

    net.head.add_module("quant", FakeQuantize())
    assert probe_plain_modules(net, {}) == ["head.quant is a fake quantizer"]


# --- the contract, checked after each step

MASK = torch.arange(72).view(8, 1, 3, 3) % 2 == 0


class Prunes(Nudge):
    @staticmethod
    def run(model: nn.Module, settings: object, context: StageContext) -> nn.Module:
        context.give("sparse", {"conv.weight": MASK})
        context.hold_facts(model)
        return model


class Ignores(Nudge):
    """Moves the weights without holding what holds."""

    @staticmethod
    def run(model: nn.Module, settings: object, context: StageContext) -> nn.Module:
        with torch.no_grad():
            model.get_parameter("conv.weight").add_(1)
        return model


def outcome(bench: Bench, *stages: str) -> str:
    with pytest.raises(ContractError) as error:
        bench.run(bench.spec(stages=list(stages)))
    assert error.value.exit_code == 1
    return str(error.value)


def test_a_mask_holds_through_later_stages_that_ask_for_it(bench: Bench) -> None:
    bench.host.add("given", stage_record("prune", Prunes, gives=("sparse",)))
    report = bench.run(bench.spec(stages=["prune", {"use": "nudge", "epochs": 2}]))
    assert report.complete


def test_a_mask_that_drifts_stops_the_run_with_its_cause(bench: Bench) -> None:
    bench.host.add("given", stage_record("prune", Prunes, gives=("sparse",)))
    bench.host.add("given", stage_record("ignore", Ignores))
    told = outcome(bench, "prune", "ignore")
    assert told.splitlines() == [
        "ignore: promised to keep 'sparse', but conv.weight: 36 pruned weights are no longer zero; "
        "check: declared-facts-hold",
        "step 3 of 3, ignore: stopped here; running again goes on after prune",
    ]


def test_a_fact_that_was_promised_and_not_given_stops_the_run(bench: Bench) -> None:
    bench.host.add("given", stage_record("idle", gives=("sparse",)))
    assert "idle: promised to give 'sparse', but no mask was left as evidence" in outcome(bench, "idle")


def test_a_fact_that_was_ended_and_still_holds_stops_the_run(bench: Bench) -> None:
    bench.host.add("given", stage_record("shy", ends=("plain-modules",)))
    told = outcome(bench, "shy")
    assert "shy: declares that it ends 'plain-modules', but the model is still plain-modules" in told
    assert "check: ended-facts-are-gone" in told


def test_a_fact_that_nobody_can_see_stops_the_run(bench: Bench) -> None:
    bench.host.add("given", stage_record("vague", gives=("low-rank",)))
    assert "no plugin says how to see that a model is low-rank" in outcome(bench, "vague")


def test_a_fact_of_a_plugins_own_is_probed_and_held(bench: Bench) -> None:
    seen: list[str] = []

    def probe(model: nn.Module, evidence: object) -> list[str]:
        seen.append("probed")
        return []

    fact = FactDef("watched", "it is watched", probe)
    bench.host.add("given", stage_record("watch", gives=(evolve(fact, hold=lambda *_: seen.append("held")),)))
    assert bench.run(bench.spec(stages=["watch", {"use": "nudge", "epochs": 2}])).complete
    assert seen.count("probed") == 2, "after the step that gives it, and after the later one"
    assert seen.count("held") == 2, "the later stage held it in each epoch"


def test_a_fact_with_a_slash_in_its_name_keeps_its_evidence(bench: Bench) -> None:
    class Gives(Nudge):
        @staticmethod
        def run(model: nn.Module, settings: object, context: StageContext) -> nn.Module:
            context.give("my/fact", {"a/b": MASK})
            return model

    def probe(model: nn.Module, evidence: dict[str, torch.Tensor]) -> list[str]:
        return [] if list(evidence) == ["a/b"] else [f"evidence is {list(evidence)}"]

    bench.host.add("given", stage_record("give", Gives, gives=(FactDef("my/fact", "it is mine", probe),)))
    assert bench.run(bench.spec(stages=["give", "nudge"])).complete


def test_evidence_is_saved_and_comes_back(bench: Bench) -> None:
    bench.host.add("given", stage_record("prune", Prunes, gives=("sparse",)))
    bench.run(bench.spec(stages=["prune"]))
    seen: list[torch.Tensor] = []

    class Looks(Nudge):
        @staticmethod
        def run(model: nn.Module, settings: object, context: StageContext) -> nn.Module:
            seen.append(context.facts["sparse"]["conv.weight"])
            return model

    bench.host.add("given", stage_record("look", Looks))
    bench.run(bench.spec(stages=["prune", "look"]))
    assert torch.equal(seen[0], MASK)
