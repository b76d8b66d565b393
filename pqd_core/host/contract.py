"""Contracts that are checked, not hoped for: after each step the facts it promised are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pqd_core.host.errors import ContractError, Problem
from pqd_core.records import FactDef, resolve

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.model import Facts, Network
    from pqd_core.plan import Step


def check_model(model: Any, step: Step, duty: str) -> nn.Module:
    """`model`, which one of a stage's duties gave back.

    Raises:
        ContractError: it is no model.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        what = f"{duty} gave back a {type(model).__name__}, not a torch.nn.Module"
        raise ContractError(Problem(step.name, what, "check: duties-give-back-a-model"))
    return model


def check_contract(network: Network, step: Step, known: Mapping[str, FactDef]) -> Facts:
    """The facts that hold after `step`, each probed, with their evidence.

    Raises:
        ContractError: a fact that should hold does not, or one that the stage ended or does not keep still does.
    """
    held: Facts = {fact: network.facts.get(fact, {}) for fact in sorted(step.facts)}
    problems = [_broken(fact, trouble, step) for fact in held for trouble in _probe(network, fact, held[fact], known)]
    ended = set(step.stage.record.ends) if step.stage else set()
    for fact in sorted((ended | set(network.facts)) - step.facts):
        if fact in known and not _probe(network, fact, network.facts.get(fact, {}), known):
            verb = "ends" if fact in ended else "does not keep"
            what = f"declares that it {verb} '{fact}', but the model is still {fact}"
            problems.append(Problem(step.name, what, "check: ended-facts-are-gone"))
    if problems:
        raise ContractError(*problems)
    return held


def _probe(network: Network, fact: str, evidence: Mapping[str, object], known: Mapping[str, FactDef]) -> list[str]:
    if fact not in known:
        return [f"no plugin says how to see that a model is {fact}"]
    return list(resolve(known[fact].probe)(network.model, evidence))


def _broken(fact: str, trouble: str, step: Step) -> Problem:
    promise = "promised to give" if step.stage and fact in step.stage.record.given else "promised to keep"
    return Problem(step.name, f"{promise} '{fact}', but {trouble}", "check: declared-facts-hold")
