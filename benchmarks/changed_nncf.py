"""How many predictions change between the network that NNCF's quantizers simulate and the deployed file.

    python benchmarks/changed_nncf.py

Runs `specs/changed-nncf.yaml`, and compares the network as it was trained, with its quantizers, with the graph of
integers that it is frozen to and with the file of each runtime. Writes `results/changed-nncf.json`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from changed import Answers, answers, deployed_answers, study

from pqd_core.context import RunContext
from pqd_core.model import rebuild
from pqd_core.plan import Step
from pqd_nncf import nncf_int8

SPEC = Path(__file__).parent / "specs" / "changed-nncf.yaml"


@torch.no_grad()
def all_answers(step: Step, context: RunContext) -> Iterator[tuple[str, Answers]]:
    """Those of the simulated network, of the integers that it becomes, and of each runtime's file."""
    artifact = context.store.find("steps", step.key)
    assert artifact is not None
    model = rebuild(artifact, step, context).model.eval()
    yield "simulated", answers(model, context)
    yield "frozen", answers(nncf_int8.freeze(copy.deepcopy(model)), context)
    yield from deployed_answers(step, context)


if __name__ == "__main__":
    study(SPEC, "changed-nncf", all_answers)
