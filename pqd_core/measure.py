"""From deployed files to numbers that carry their provenance."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import asdict, evolve, field, frozen

from pqd_core.host.environment import package_version
from pqd_core.host.keys import content_key
from pqd_core.records import Better
from pqd_core.task import CLASSIFICATION, Task

if TYPE_CHECKING:
    from torch import nn

    from pqd_core.context import RunContext
    from pqd_core.data import Data
    from pqd_core.deploy import Deployed, Operator, Session
    from pqd_core.host.entries import Entry


@frozen
class Measurement:
    """One number, or the reason why there is none (`value` is None and `missing` says why; never 0 or NaN)."""

    metric: str
    value: float | None
    unit: str
    better: Better
    spread: float | None = None
    """Half of the number's 95 % interval, in its unit; how it was found is in `provenance`."""
    n: int | None = None
    """How many observations the value rests on."""
    provenance: Mapping[str, Any] = field(factory=dict)
    """How it was measured. A true `error` says that a missing number failed, rather than does not apply: the run is
    then incomplete, and the number is measured again next time. A `caution` is a sentence that the report repeats."""
    missing: str | None = None


@frozen
class MeasureContext:
    """What a measurer may use besides the deployed files."""

    data: Data
    threads: int
    scratch: Path
    """An empty folder that is removed afterwards."""
    open_session: Callable[..., Session]
    """`open_session(deployed, threads=None, batch=None)`."""
    weights: Callable[[Deployed], Any]
    """The weight arrays stored in a deployed file, by layer."""
    trained_weights: Callable[[Deployed], Mapping[str, Any]]
    """The weight arrays that the file's were made of, by layer: of the last training, before any rounding."""
    frozen_model: Callable[[Deployed], nn.Module]
    """The frozen torch model that a file was exported from."""
    worker: Callable[[Deployed], tuple[str, str, Any]]
    """What another process needs to open a file: the runtime's `load` path, the file, its settings."""
    execution: Callable[[Deployed], Sequence[Operator] | None] = lambda deployed: None
    """The operators that a file's runtime really runs; None if it does not tell."""
    stages: Callable[[Deployed], Sequence[Mapping[str, Any]]] = lambda deployed: ()
    """The stages that a file's network went through, in order: `use` (the name), `kind`, and all settings."""
    task: Task = CLASSIFICATION
    """What the outputs mean, and when they are right."""


class Measurer(Protocol):
    """What a measurer's implementation does; a module with this function is one."""

    def measure(
        self, candidates: Sequence[Deployed], settings: Any, context: MeasureContext
    ) -> Sequence[Sequence[Measurement]]:
        """For each candidate, in order, its measurements.

        A candidate that cannot be measured gets a measurement with `missing` set; raising makes all of them missing.
        """
        ...


def measure_all(
    measurer: Entry, candidates: Sequence[Deployed], context: RunContext, frozen_model: Callable[[Deployed], nn.Module]
) -> list[list[Measurement]]:
    """The measurer's numbers for each candidate, in order: stored ones if the same was measured before here.

    What cannot be measured is missing with its reason; nothing raises for one cell.
    """
    groups = _by_seed(candidates) if measurer.record.together else [[candidate] for candidate in candidates]
    return [numbers for group in groups for numbers in _measure_group(measurer, group, context, frozen_model)]


def _by_seed(candidates: Sequence[Deployed]) -> list[list[Deployed]]:
    """What one seed's pipelines left, side by side: they are compared with each other, and a new seed changes none."""
    return [[c for c in candidates if c.seed == seed] for seed in dict.fromkeys(c.seed for c in candidates)]


def _measure_group(
    measurer: Entry, group: Sequence[Deployed], context: RunContext, frozen_model: Callable[[Deployed], nn.Module]
) -> list[list[Measurement]]:
    key = measurement_key(measurer, group, context)
    with context.store.locked(key):
        stored = None if context.remeasure else context.store.find("measured", key)
        if stored is None:
            numbers = _measure_now(measurer, group, context, frozen_model)
            if not any(number.missing and number.provenance.get("error") for row in numbers for number in row):
                _save(context, key, measurer, numbers)
            return numbers
    return [[Measurement(**number) for number in row] for row in stored.about["numbers"]]


def _save(context: RunContext, key: str, measurer: Entry, numbers: Sequence[Sequence[Measurement]]) -> None:
    about = {"measurer": measurer.flat(), "numbers": [[asdict(number) for number in row] for row in numbers]}
    if context.store.has("measured", key):
        context.store.remove("measured", key)
    with context.store.saved("measured", key, about):
        pass


def measurement_key(measurer: Entry, group: Sequence[Deployed], context: RunContext) -> str:
    """Content key of a measurement: what is measured, with what, on which machine and data."""
    return content_key(
        measurer=measurer.identity(),
        files=[deployed.key for deployed in group],
        data=context.plan.step(group[0].step_key).data,
        threads=context.threads,
        environment=context.environment,
    )


def _measure_now(
    measurer: Entry, group: Sequence[Deployed], context: RunContext, frozen_model: Callable[[Deployed], nn.Module]
) -> list[list[Measurement]]:
    with tempfile.TemporaryDirectory(prefix="pqd-") as scratch:
        inputs = MeasureContext(
            data=context.data(group[0].seed),
            task=context.task,
            threads=context.threads,
            scratch=Path(scratch),
            open_session=partial(_open_session, context),
            weights=lambda deployed: _runtime(context, deployed).implementation().weights(deployed.file),
            execution=partial(_execution, context),
            stages=partial(_stages, context),
            trained_weights=partial(_trained_weights, context),
            frozen_model=frozen_model,
            worker=lambda deployed: (_runtime(context, deployed).load, str(deployed.file), deployed.settings),
        )
        try:
            rows = measurer.record.implementation().measure(group, measurer.settings, inputs)
            numbers = _as_promised(rows, measurer, len(group))
        except (Exception, SystemExit) as error:
            context.log.exception("measurer failed", measurer=measurer.name)
            numbers = [_all_missing(measurer, error) for _ in group]
    return [[_with_provenance(number, row, context) for number in numbers[i]] for i, row in enumerate(group)]


def _as_promised(rows: Sequence[Sequence[Measurement]], measurer: Entry, files: int) -> list[list[Measurement]]:
    """The rows, which can be stored as they are; raises what is wrong with them."""
    numbers, known = [list(row) for row in rows], [metric.name for metric in measurer.record.metrics]
    if len(numbers) != files:
        raise ValueError(f"gave {len(numbers)} rows for {files} files")
    for number in (number for row in numbers for number in row):
        if not isinstance(number, Measurement) or number.metric not in known:
            raise TypeError(f"gave {number!r}, which is no measurement of {', '.join(known)}")
        json.dumps(asdict(number))
    return numbers


def _all_missing(measurer: Entry, error: BaseException) -> list[Measurement]:
    why = f"{measurer.name} failed: {type(error).__name__}: {error}"
    return [
        Measurement(metric.name, None, metric.unit, metric.better, missing=why, provenance={"error": True})
        for metric in measurer.record.metrics
    ]


def _with_provenance(number: Measurement, deployed: Deployed, context: RunContext) -> Measurement:
    """The number with what it was measured on; one that is not finite becomes missing."""
    provenance = {
        "runtime": deployed.runtime,
        "runtime_versions": {name: package_version(name) for name in _runtime(context, deployed).requires},
        "threads": context.threads,
        "cpu": context.environment["cpu"],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **number.provenance,
    }
    failed = {**provenance, "error": True}
    if number.value is None:
        return evolve(
            number, provenance=provenance if number.missing else failed, missing=number.missing or "no reason"
        )
    if not math.isfinite(number.value):
        return evolve(number, value=None, missing=f"the measured value was {number.value}", provenance=failed)
    spread = number.spread if number.spread is not None and math.isfinite(number.spread) else None
    return evolve(number, spread=spread, provenance=provenance)


def _runtime(context: RunContext, deployed: Deployed) -> Any:
    return context.host.registry("runtime").find(f"{deployed.plugin}:{deployed.runtime}").record


def _execution(context: RunContext, deployed: Deployed) -> Sequence[Operator] | None:
    tell = getattr(_runtime(context, deployed).implementation(), "execution", None)
    return tell(deployed.file, deployed.settings) if tell else None


def _stages(context: RunContext, deployed: Deployed) -> list[Mapping[str, Any]]:
    path = context.plan.path_to(context.plan.step(deployed.step_key))
    stages = [step.stage for step in path if step.stage]
    return [stage.flat() | {"use": stage.name, "kind": stage.record.kind} for stage in stages]


def _trained_weights(context: RunContext, deployed: Deployed) -> dict[str, Any]:
    """The weights of the artifact that a file was exported from, as arrays by layer."""
    from pqd_core.model import WEIGHTS

    artifact = context.store.find("steps", deployed.step_key)
    tensors = artifact.tensors(WEIGHTS) if artifact else {}
    weights = {name: tensor for name, tensor in tensors.items() if name.endswith(".weight") and tensor.dim() > 1}
    return {name.removesuffix(".weight"): tensor.float().numpy() for name, tensor in weights.items()}


def _open_session(
    context: RunContext, deployed: Deployed, threads: int | None = None, batch: int | None = None
) -> Session:
    implementation = _runtime(context, deployed).implementation()
    session: Session = implementation.open_session(deployed.file, threads or context.threads, deployed.settings, batch)
    return session
