"""What is asked of stages while they train: each is run by the core on toys, on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import evolve
from torch import Tensor, nn

from pqd_core.artifact import Store
from pqd_core.facts import BASELINE_FACTS, FAKE_QUANT, PLAIN_MODULES, SPARSE
from pqd_core.host.errors import ContractError, PqdError
from pqd_core.host.rehearsal import rehearse
from pqd_core.model import network_state
from pqd_core.records import StageDef
from pqd_core.testing.case import Case, CheckFailed, check, require
from pqd_core.testing.trial import Trial, trial
from pqd_core.testing.workshop import refusals

PRUNED = BASELINE_FACTS | {SPARSE}
QUANTIZED = (BASELINE_FACTS | {FAKE_QUANT}) - {PLAIN_MODULES}


def _legal_on(facts: frozenset[str]) -> Callable[[Case], bool]:
    """Whether a case's stage may run on a model with these facts."""

    def legal(case: Case) -> bool:
        assert isinstance(case.record, StageDef)
        return not case.after and facts.issuperset(case.record.needs)

    return legal


@check(StageDef)
def runs_on_a_cpu_with_toys(case: Case) -> None:
    """The stage runs for one epoch on a small residual network and a hundred images, on a CPU."""
    artifact = trial(case).artifact
    require(artifact.about["stage"], "the artifact does not say which stage left it")


def _broken(tried: Trial, name: str = "check: ") -> list[str]:
    """What the core found broken of the contract, by the name of the check that it names."""
    try:
        _ = tried.artifact
    except ContractError as error:
        return [f"{problem.what}" for problem in error.problems if name in problem.hint]
    return []


@check(StageDef)
def duties_give_back_a_model(case: Case) -> None:
    """Each of the three duties gives back a torch.nn.Module, whose `eval()` gives back the model too."""
    tried = trial(case)
    problems = _broken(tried, "check: duties-give-back-a-model")
    require(not problems, "; ".join(problems))
    for duty, model in (("run", tried.live.model), ("freeze", tried.frozen())):
        require(isinstance(model, nn.Module), f"{duty} gave back a {type(model).__name__}, not a torch.nn.Module")
        require(model.eval() is model, f"eval() of what {duty} gave back gives back something else than the model")


@check(StageDef)
def declared_facts_hold(case: Case) -> None:
    """Every fact that the stage gives, or keeps of a dense network, is seen by its probe afterwards."""
    _require_facts(trial(case))


@check(StageDef)
def ended_facts_are_gone(case: Case) -> None:
    """What the stage declares to end, or does not keep, is no longer seen by its probe."""
    problems = _broken(trial(case), "check: ended-facts-are-gone")
    require(not problems, "; ".join(problems))


@check(StageDef, asked=_legal_on(PRUNED))
def declared_facts_hold_after_pruning(case: Case) -> None:
    """The stage runs on a pruned network, and leaves it pruned if it keeps `sparse`."""
    _require_facts(trial(case, "starts:toy-mask", backbone="toy-net"))


@check(StageDef, asked=_legal_on(QUANTIZED))
def declared_facts_hold_after_quantization(case: Case) -> None:
    """The stage runs on a traced graph that simulates quantization, and leaves it so if it keeps `fake-quant`."""
    _require_facts(trial(case, "starts:toy-fake-quant", backbone="toy-net"))


def _require_facts(tried: Trial) -> None:
    problems = _broken(tried)
    require(not problems, "; ".join(problems))


def _trains(case: Case) -> bool:
    assert isinstance(case.record, StageDef)
    return case.record.trains


@check(StageDef, asked=_trains)
def runs_without_epochs(case: Case) -> None:
    """The stage does its work also when its share of the budget is no epoch."""
    problems = _broken(tried := trial(case, epochs=0))
    require(not problems, "; ".join(problems))
    require(not tried.artifact.about["history"], "it has trained, with a budget of no epochs")


@check(StageDef)
def leaves_its_input_alone(case: Case) -> None:
    """Neither the images nor what the parent left in the store is changed."""
    tried = trial(case)
    _ = tried.artifact
    require(not tried.data_changed, "the training images were changed in place; work on a copy")
    parent = tried.context.store.find("steps", tried.parent.key)
    require(parent is not None, "the parent's artifact was changed in the store")


def _rehearses(case: Case) -> bool:
    assert isinstance(case.record, StageDef)
    return hasattr(case.record.implementation(), "rehearse")


@check(StageDef, asked=_rehearses)
def rehearsing_takes_what_run_takes(case: Case) -> None:
    """`rehearse`, if the stage has it, refuses no untrained network on which the stage runs once it is trained."""
    tried = trial(case)
    _ = tried.artifact
    try:
        rehearse(evolve(tried.context, store=Store(tried.shop.new_folder("store"))))
    except PqdError as error:
        raise CheckFailed(f"refuses what run takes: {error.problems[0]}") from error


@check(StageDef)
def leaves_the_process_alone(case: Case) -> None:
    """Environment, folder, log handlers, random states and torch's settings come back as they were."""
    tried = trial(case)
    _ = tried.artifact
    require(not tried.process_changes, f"running it changed {', '.join(tried.process_changes)}")


@check(StageDef)
def same_seed_same_result(case: Case) -> None:
    """Two runs with one seed leave the same tensors, whatever the random states of the process were."""
    tried = trial(case)
    _ = tried.artifact
    for file, tensors in network_state(tried.live).items():
        saved = tried.artifact.tensors(file)
        require(saved.keys() == tensors.keys(), f"two runs left different tensors: {saved.keys() ^ tensors.keys()}")
        differing = [name for name, tensor in tensors.items() if not _equal(saved[name], tensor)]
        hint = "take random numbers from torch, which is seeded, or from a generator with context.seed"
        require(not differing, f"two runs differ in {', '.join(differing[:5])}; {hint}")


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@check(StageDef)
def survives_save_and_load(case: Case) -> None:
    """A network rebuilt from its artifact answers as the one that was trained, before freezing and after."""
    tried = trial(case)
    expected = tried.answers(tried.live.model)
    rebuilt = tried.rebuilt()
    _require_close(tried.answers(rebuilt.model), expected, "the rebuilt network")
    require(set(rebuilt.facts) == set(tried.step.facts), "the artifact has lost facts")
    _require_close(tried.answers(tried.frozen()), expected, "the frozen network", tolerance=0.1)


def _require_close(got: Tensor, expected: Tensor, who: str, tolerance: float = 1e-4) -> None:
    hint = "what run changes has to be in the state dict, and what restructure changes has to be repeated by it"
    require(got.shape == expected.shape, f"{who} gives {tuple(got.shape)}, not {tuple(expected.shape)}")
    difference = float((got - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    require(difference <= tolerance, f"{who} answers otherwise than the trained one, by {difference:.2g}; {hint}")


@check(StageDef)
def refuses_with_a_reason(case: Case) -> None:
    """A network without any layer is either taken, or refused by a `PqdError` that says why."""
    with refusals("a network without layers"):
        _ = trial(case, backbone="toy-bare").artifact
