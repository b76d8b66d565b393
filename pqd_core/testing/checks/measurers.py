"""What is asked of measurers: numbers of their record for every file, or the reason why there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from attrs import asdict, evolve
from torch import nn

from pqd_core.context import RunContext
from pqd_core.deploy import Deployed, deploy
from pqd_core.host.entries import entries_or_all
from pqd_core.host.keys import file_digest
from pqd_core.measure import Measurement, measure_all
from pqd_core.model import freeze, rebuild
from pqd_core.plan import Step
from pqd_core.records import MeasurerDef, StageDef
from pqd_core.testing.case import Case, check, require
from pqd_core.testing.state import watched
from pqd_core.testing.trial import Trial, trial
from pqd_core.testing.workshop import workshop


def _tried() -> Trial:
    """A pruned network to measure, and the dense one before it; made once for all measurers."""
    from pqd_core.testing import starts

    if not _prepared:
        record = next(record for record in starts.pqd_stages() if record.name == "toy-mask")
        assert isinstance(record, StageDef)
        _prepared.append(Case(record))
    return trial(_prepared[0])


_prepared: list[Case] = []


def _deployed(tried: Trial) -> list[Deployed]:
    """The files of the dense and of the pruned network."""
    if Deployed not in tried.shop.shared:
        _ = tried.artifact
        steps = (tried.context.plan.steps[0], tried.step)
        tried.shop.shared[Deployed] = [_deploy(tried, step) for step in steps]
    found: list[Deployed] = tried.shop.shared[Deployed]
    return found


def _deploy(tried: Trial, step: Step) -> Deployed:
    [runtime] = entries_or_all(None, tried.shop.host, "runtime")
    return deploy(step, runtime, tried.context, lambda: _frozen(tried, step), tried.shop.new_folder("shared"))


def _frozen(tried: Trial, step: Step) -> nn.Module:
    artifact = tried.context.store.find("steps", step.key)
    assert artifact is not None
    return freeze(rebuild(artifact, step, tried.context), step, tried.context)


def _context(tried: Trial) -> RunContext:
    return evolve(tried.context, remeasure=True)


def _measure(case: Case, files: Sequence[Deployed]) -> list[list[Measurement]]:
    tried = _tried()
    by_key = {step.key: step for step in tried.context.plan.steps}
    return measure_all(
        workshop(case).entry, files, _context(tried), lambda found: _frozen(tried, by_key[found.step_key])
    )


def _measured(case: Case) -> list[list[Measurement]]:
    shared = workshop(case).shared
    if Measurement not in shared:
        files = _deployed(_tried())
        before = _digests(files)
        with watched() as changes:
            shared[Measurement] = _measure(case, files)
        shared["process changes"], shared["files changed"] = changes, before != _digests(files)
    found: list[list[Measurement]] = shared[Measurement]
    return found


def _digests(files: Sequence[Deployed]) -> dict[str, str]:
    return {str(path): file_digest(path) for one in files for path in sorted(one.folder.rglob("*")) if path.is_file()}


@check(MeasurerDef)
def gives_the_metrics_of_its_record(case: Case) -> None:
    """For every file there is one measurement of each metric of the record, with its unit and better side."""
    assert isinstance(case.record, MeasurerDef)
    promised = sorted((metric.name, metric.unit, metric.better) for metric in case.record.metrics)
    for row in _measured(case):
        given = sorted((number.metric, number.unit, number.better) for number in row)
        require(given == promised, f"gave {given}, the record has {promised}")


@check(MeasurerDef)
def numbers_are_finite_or_missing_with_a_reason(case: Case) -> None:
    """A number is finite, and its spread too; one that cannot be had is missing, and says why."""
    for number in (number for row in _measured(case) for number in row):
        if number.provenance.get("error"):
            require(False, f"{number.metric} failed: {number.missing}")
        if number.value is None:
            require(number.missing, f"{number.metric} is missing without a reason")
        else:
            require(not number.missing, f"{number.metric} has a value and a reason why it is missing")
            require(math.isfinite(number.value), f"{number.metric} is {number.value}")
            require(number.spread is None or number.spread >= 0, f"{number.metric} has a spread of {number.spread}")


@check(MeasurerDef)
def numbers_can_be_stored(case: Case) -> None:
    """Measurements, their provenance included, are plain JSON."""
    for number in (number for row in _measured(case) for number in row):
        written = json.dumps(asdict(number), sort_keys=True, allow_nan=False)
        require(Measurement(**json.loads(written)).metric == number.metric, f"{number.metric} cannot be read back")


@check(MeasurerDef)
def measuring_leaves_the_files_alone(case: Case) -> None:
    """The deployed files are the same before and after."""
    _measured(case)
    require(not workshop(case).shared["files changed"], "a deployed file was changed; write into context.scratch")


@check(MeasurerDef)
def measuring_leaves_the_process_alone(case: Case) -> None:
    """Environment, folder, log handlers, all random states and torch's settings come back as they were."""
    _measured(case)
    changes = workshop(case).shared["process changes"]
    require(not changes, f"measuring changed {', '.join(changes)}")


@check(MeasurerDef)
def what_cannot_be_measured_is_missing(case: Case) -> None:
    """A damaged file gets numbers that are finite, or missing with a reason."""
    good = _deployed(_tried())[0]
    folder = workshop(case).new_folder("damaged")
    (folder / "manifest.json").write_text("{}")
    (folder / good.file.name).write_bytes(b"this is no model\n" * 9)
    damaged = evolve(good, file=folder / good.file.name, folder=folder, key="0" * 64)
    for number in _measure(case, [damaged])[0]:
        known = number.missing if number.value is None else math.isfinite(number.value)
        require(known, f"{number.metric} of a damaged file is {number.value}, without a reason")
