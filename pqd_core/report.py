"""The report: every pipeline's numbers, how they came about, and what they say. `report.json` is a contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from pqd_core.host import paths
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.render import render_csv, render_markdown, render_table
from pqd_core.host.verdicts import make_verdicts
from pqd_core.records import Better

if TYPE_CHECKING:
    from pqd_core.context import RunContext
    from pqd_core.deploy import Deployed
    from pqd_core.measure import Measurement

REPORT = "report.json"
REPORT_LIMIT_BYTES = 64 * 2**20
DENSE: tuple[str, ...] = ()
ROUNDING = 1e-9
"""0.99 - 0.98 is a drop of 0.01."""


class Part(BaseModel):
    """A part of the report: every key known."""

    model_config = ConfigDict(extra="forbid")


class Metric(Part):
    """One number of one deployed file; `value` is null where `missing` says why."""

    value: float | None = Field(description="The number, in `unit`.")
    unit: str = Field(description="Unit; `1` for a share.")
    better: Better = Field(description="Which side is better.")
    spread: float | None = Field(None, description="Half of its 95 % interval, in `unit`.")
    n: int | None = Field(None, description="Observations behind the number.")
    missing: str | None = Field(None, description="Why there is no number.")
    headline: bool = Field(True, description="Whether the short table shows it.")
    provenance: dict[str, Any] = Field({}, description="How, on what and when it was measured.")


class Row(Part):
    """One pipeline of one seed, deployed to one runtime."""

    pipeline: tuple[str, ...] = Field(description="The stages in their order; empty for the dense baseline.")
    seed: int = Field(description="Seed of the run.")
    runtime: str = Field(description="Where the file runs.")
    file: Path = Field(description="The deployed file, relative to the run folder.")
    step: str = Field(description="Key of the step that the file was exported from.")
    parity: dict[str, float] = Field(description="How the file's outputs compare with the frozen model's.")
    metrics: dict[str, Metric] = Field(description="Numbers by metric.")

    @property
    def label(self) -> str:
        """The pipeline in words."""
        return " -> ".join(self.pipeline) or "dense baseline"

    def value(self, metric: str) -> float | None:
        """The metric's number, None if it is missing."""
        found = self.metrics.get(metric)
        return found.value if found else None


class StepRecord(Part):
    """One stage run once."""

    key: str = Field(description="Content key.")
    parent: str | None = Field(description="Key of the step before it.")
    stage: str = Field(description="The stage's name, or `baseline`.")
    epochs: int = Field(description="Epochs it trained.")
    seconds: float = Field(description="Time that making it took, whenever that was.")
    reused: bool = Field(description="Whether it was found in the store.")
    history: list[dict[str, float]] = Field([], description="The training curve, one entry an epoch.")


class Report(Part):
    """What a run found out."""

    schema_version: Literal[1] = Field(1, description="Version of this contract.")
    title: str = Field(description="The run's name.")
    created: str = Field(description="When, UTC.")
    seconds: float = Field(description="Time this run took, reused work not counted.")
    rows: list[Row] = Field(description="One per pipeline, seed and runtime.")
    steps: list[StepRecord] = Field(description="One per stage run.")
    verdicts: list[str] = Field(description="What the numbers say, in sentences.")
    problems: list[str] = Field(description="What went wrong without ending the run.")
    complete: bool = Field(description="Whether every step was deployed and measured; observers do not count.")
    spec: dict[str, Any] = Field(description="The request, with all defaults.")
    plugins: list[dict[str, str]] = Field(description="The plugins that took part, with distribution and version.")
    environment: dict[str, Any] = Field(description="Machine and versions.")
    _folder: Path = PrivateAttr(default_factory=Path)

    def dense(self, row: Row) -> Row | None:
        """The dense baseline in the row's runtime and seed."""
        same = (r for r in self.rows if (r.pipeline, r.runtime, r.seed) == (DENSE, row.runtime, row.seed))
        return next(same, None)

    @property
    def folder(self) -> Path:
        """Where the report and its files lie."""
        return self._folder

    def table(self) -> str:
        """The short table as text: one line per pipeline and runtime, each against the dense network."""
        return render_table(self)

    def best(self, metric: str, max_accuracy_drop: float = 1.0, runtime: str | None = None) -> Row:
        """The row with the best `metric` among those that lose no more accuracy than that against the dense network.

        Accuracy is that on the validation images where some were held out, so that nothing is chosen on the test set.

        Raises:
            PqdError: the metric is unknown, or no row qualifies.
        """
        accuracy = (
            "accuracy_validation" if any(r.value("accuracy_validation") is not None for r in self.rows) else "accuracy"
        )
        rows = [r for r in self.rows if runtime in (None, r.runtime) and r.value(metric) is not None]
        if not rows:
            known = sorted({f"{name} on {r.runtime}" for r in self.rows for name in r.metrics})
            place = f" on {runtime}" if runtime else ""
            raise PqdError(Problem("best", f"no row has the metric '{metric}'{place}", f"known: {', '.join(known)}"))
        drops = [(r, drop) for r in rows if (drop := self._drop(r, accuracy)) is not None]
        if not drops:
            raise PqdError(Problem("best", f"no row has an {accuracy} to compare with the dense network's"))
        good = [r for r, drop in drops if drop <= max_accuracy_drop + ROUNDING]
        if not good:
            raise PqdError(Problem("best", f"every pipeline loses more than {max_accuracy_drop:.2%} of accuracy"))
        sign = -1 if rows[0].metrics[metric].better == "higher" else 1
        winner = min(good, key=lambda r: sign * (r.value(metric) or 0.0))
        return winner.model_copy(update={"file": (self._folder / winner.file).resolve()})

    def _drop(self, row: Row, accuracy: str) -> float | None:
        dense = self.dense(row)
        before, after = dense.value(accuracy) if dense else None, row.value(accuracy)
        return None if before is None or after is None else before - after

    def write(self, folder: Path) -> None:
        """`report.json`, `report.md` and `results.csv` are in `folder`."""
        self._folder = folder
        paths.write_text(folder / REPORT, self.model_dump_json(indent=1) + "\n")
        paths.write_text(folder / "report.md", render_markdown(self))
        paths.write_text(folder / "results.csv", render_csv(self))


def read_report(run: Path) -> Report:
    """The report of a run folder (or of a `report.json`).

    Raises:
        PqdError: there is none, or it cannot be read; exit code 2.
    """
    file = run / REPORT if run.is_dir() else run
    try:
        if file.stat().st_size > REPORT_LIMIT_BYTES:
            raise ValueError("too large")
        report = Report.model_validate_json(file.read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no report of this version"
        problem = PqdError(Problem(str(file), f"cannot be read: {reason}", "give the folder of a finished run"))
        problem.exit_code = 2
        raise problem from error
    report._folder = file.parent
    return report


def make_report(
    context: RunContext,
    steps: list[StepRecord],
    deployed: Sequence[Deployed],
    numbers: Sequence[Sequence[Measurement]],
    failed: list[str],
    observers_failed: list[str],
    seconds: float,
) -> Report:
    """The report of what a run found; `failed` deployments make it incomplete, observers that failed do not."""
    rows = [_row(found, measured, context) for found, measured in zip(deployed, numbers, strict=True)]
    failed = [*failed, *_failed_cells(rows)]
    report = Report(
        title=context.spec.title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        rows=rows,
        steps=steps,
        verdicts=[],
        problems=[*failed, *observers_failed],
        complete=not failed,
        spec=context.spec.model_dump(mode="json"),
        plugins=[
            {"name": p.name, "distribution": p.distribution, "version": p.version}
            for p in context.host.plugins
            if p.error is None
        ],
        environment=context.environment,
    )
    report.verdicts = make_verdicts(report, context.plan)
    return report


def _row(found: Deployed, measured: Sequence[Measurement], context: RunContext) -> Row:
    headline = {m.name: m.headline for owned in context.host.registry("measurer") for m in owned.record.metrics}
    metrics = {
        number.metric: Metric(
            **{key: value for key, value in asdict(number).items() if key != "metric"},
            headline=headline.get(number.metric, False),
        )
        for number in measured
    }
    return Row(
        pipeline=found.pipeline,
        seed=found.seed,
        runtime=found.runtime,
        file=found.place,
        step=found.step_key,
        parity=asdict(found.parity),
        metrics=metrics,
    )


def _failed_cells(rows: Sequence[Row]) -> list[str]:
    """A sentence for each measurement that failed; one that does not apply (top-5 of 3 classes) is no failure."""
    return [
        f"{row.label} on {row.runtime}: {name} is missing: {metric.missing}"
        for row in rows
        for name, metric in row.metrics.items()
        if metric.missing and metric.provenance.get("error")
    ]
