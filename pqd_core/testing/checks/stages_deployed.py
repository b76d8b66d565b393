"""What is asked of stages when their networks are deployed: to every runtime that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from pqd_core.host.entries import Entry, entries_or_all
from pqd_core.host.parity import compare
from pqd_core.host.plugins import default_host
from pqd_core.records import StageDef
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.trial import Trial, trial

MAX_DISAGREEMENT = 0.05


@check(StageDef)
def freezes_to_what_every_runtime_exports(case: Case) -> None:
    """The frozen network can be exported by every installed runtime, and the file agrees with it."""
    tried = trial(case)
    model, shared = tried.frozen(), tried.shop.new_folder("shared")
    problems = [problem for runtime in _runtimes(tried) for problem in _deployed(tried, runtime, model, shared)]
    require(not problems, "; ".join(problems))


def _runtimes(tried: Trial) -> list[Entry]:
    """All that have defaults, the toy one first."""
    return [runtime for host in (tried.shop.host, default_host()) for runtime in entries_or_all(None, host, "runtime")]


def _deployed(tried: Trial, runtime: Entry, model: nn.Module, shared: Path) -> Iterator[str]:
    folder = tried.shop.new_folder(runtime.name)
    implementation: Any = runtime.record.implementation()
    try:
        file = implementation.export(model, tried.context.example, folder, shared, runtime.settings)
        parity = compare(model, file, runtime, tried.context)
    except (Exception, SystemExit) as error:
        yield f"{runtime.name} cannot export what freeze gives ({type(error).__name__}: {error})"
        return
    if parity.changed_predictions > MAX_DISAGREEMENT:
        yield f"{runtime.name}'s file predicts another class for {parity.changed_predictions:.0%} of the images"
