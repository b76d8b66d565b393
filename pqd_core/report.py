"""The report: every pipeline's numbers, how they came about, and what they say. `report.json` is a contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict
from pydantic import Field, PrivateAttr

from pqd_core.host import paths
from pqd_core.host.analysis import Analysis, analyse
from pqd_core.host.analysis.goals import GoalOutcome, judge
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.foreign import check_foreign, no_constant
from pqd_core.host.render import grid, legend, render_csv, render_table
from pqd_core.host.rows import DENSE, Metric, Part, Pipeline, Row, StepRecord, by_place, lineage
from pqd_core.host.verdicts import make_verdicts

if TYPE_CHECKING:
    from pqd_core.context import RunContext
    from pqd_core.deploy import Deployed
    from pqd_core.measure import Measurement
    from pqd_core.plan import Plan

REPORT = "report.json"
REPORT_LIMIT_BYTES = 64 * 2**20
SCHEMA_VERSION = 3


class Report(Part):
    """What a run found out."""

    schema_version: Literal[3] = Field(3, description="Version of this contract.")
    title: str = Field(description="The run's name.")
    created: str = Field(description="When, UTC.")
    seconds: float = Field(description="Time this run took, reused work not counted.")
    rows: list[Row] = Field(description="One per pipeline, seed and runtime.")
    steps: list[StepRecord] = Field(description="One per stage run.")
    analysis: Analysis = Field(description="The rows over seeds, orders and stages.")
    notes: list[str] = Field([], description="What was asked and not run as written, and why.")
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

    def epochs(self, pipeline: Pipeline) -> int | None:
        """Epochs of the pipeline's stages together, without the baseline's; None where its steps are not known."""
        row = next((row for row in self.rows if row.pipeline == pipeline), None)
        line = lineage(self.steps, row.step) if row else []
        return sum(step.epochs for step in line[:-1]) if line else None

    @property
    def baseline_epochs(self) -> int:
        """Epochs of the dense network that all pipelines begin with."""
        return next((step.epochs for step in self.steps if step.parent is None), 0)

    @property
    def folder(self) -> Path:
        """Where the report and its files lie."""
        return self._folder

    def table(self) -> str:
        """The short table as text: one line per pipeline and runtime, each against the dense network."""
        return render_table(self)

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """The short table as cells of text: its header, and its lines."""
        return grid(self)

    @property
    def legend(self) -> str:
        """What the signs of the short table mean."""
        return legend(self)

    def best(self, metric: str, max_accuracy_drop: float = 1.0, runtime: str | None = None) -> Row:
        """The row with the best `metric` among those that lose no more accuracy than that against the dense network.

        Both are means over seeds; the row is that of the first seed. Accuracy is that on the validation images where
        some were held out, so that nothing is chosen on the test set.

        Raises:
            PqdError: the metric is unknown, or no row qualifies.
        """
        outcome = judge(by_place(self.rows), metric, max_accuracy_drop, runtime)
        if outcome.winner is None or all(candidate.change is None for candidate in outcome.candidates):
            raise PqdError(_why_none(outcome, self.rows))
        place = outcome.winner.pipeline, outcome.winner.runtime
        first = next(row for row in by_place(self.rows)[place].values() if row.value(outcome.metric) is not None)
        return first.model_copy(update={"file": (self._folder / first.file).resolve()})

    def write(self, folder: Path) -> None:
        """`report.json` and `results.csv` are in `folder`."""
        self._folder = folder
        paths.write_text(folder / REPORT, self.model_dump_json(indent=1) + "\n")
        paths.write_text(folder / "results.csv", render_csv(self))


def read_report(run: Path) -> Report:
    """The report of a run folder (or of a `report.json`); one of version 1 gets the analysis that it lacks, one of
    version 2 stays as it was judged: without corrected p and without runners-up.

    Raises:
        PqdError: there is none, or it cannot be read; exit code 2.
    """
    file = run
    try:
        file = run / REPORT if run.is_dir() else run
        if file.stat().st_size > REPORT_LIMIT_BYTES:
            raise ValueError("too large")
        report = Report.model_validate(_brought_up_to_date(json.loads(file.read_bytes(), parse_constant=no_constant)))
        check_foreign(report)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error), "give the folder of a finished run") from error
    except _OtherVersion as error:
        raise _unreadable(file, str(error), "read it with that version of pqd, or run its spec again") from error
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _unreadable(file, "it is no report of this version", "give the folder of a finished run") from error
    report._folder = file.parent
    return report


class _OtherVersion(ValueError):
    """A report that is one, but not of a version that is known here."""


def _unreadable(file: Path, reason: str, hint: str) -> PqdError:
    problem = PqdError(Problem(str(file), f"cannot be read: {reason}", hint))
    problem.exit_code = 2
    return problem


def _brought_up_to_date(raw: Any) -> Any:
    version = raw["schema_version"]
    if version == SCHEMA_VERSION:
        return raw
    if version == 2:
        return {**raw, "schema_version": SCHEMA_VERSION}
    if version != 1:
        raise _OtherVersion(f"it is a report of version {version!s:.20}, this pqd reads 1 to {SCHEMA_VERSION}")
    rows = [Row.model_validate(row) for row in raw["rows"]]
    return {**raw, "schema_version": SCHEMA_VERSION, "analysis": analyse(rows, raw["spec"])}


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
    failed, spec = [*failed, *_failed_cells(rows)], context.spec.model_dump(mode="json")
    analysis = analyse(rows, spec)
    return Report(
        title=context.spec.title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        rows=rows,
        steps=steps,
        analysis=analysis,
        verdicts=make_verdicts(rows, analysis, _reasons(context.plan)),
        notes=list(context.plan.notes),
        problems=[*failed, *observers_failed],
        complete=not failed,
        spec=spec,
        plugins=[
            {"name": p.name, "distribution": p.distribution, "version": p.version}
            for p in context.host.plugins
            if p.error is None
        ],
        environment=context.environment,
    )


def _reasons(plan: Plan) -> dict[str, Mapping[str, str]]:
    """By stage and metric: why the stage may leave the metric where it was."""
    return {step.pipeline[-1]: step.stage.record.no_gain for step in plan.steps if step.stage}


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


def _why_none(outcome: GoalOutcome, rows: Sequence[Row]) -> Problem:
    """Why no row wins."""
    place = f" on {outcome.runtime}" if outcome.runtime else ""
    if all(candidate.value is None for candidate in outcome.candidates):
        known = sorted({f"{name} on {row.runtime}" for row in rows for name in row.metrics})
        return Problem("best", f"no row has the metric '{outcome.metric}'{place}", f"known: {', '.join(known)}")
    if all(candidate.change is None for candidate in outcome.candidates):
        return Problem("best", f"no row has an {outcome.judged_on} to compare with the dense network's")
    if any(candidate.incomplete for candidate in outcome.candidates):
        return Problem("best", "no pipeline that has all seeds keeps its accuracy", "run the study again: it resumes")
    return Problem("best", f"every pipeline loses more than {outcome.max_accuracy_drop:.2%} of accuracy")


def _failed_cells(rows: Sequence[Row]) -> list[str]:
    """A sentence for each measurement that failed; one that does not apply (top-5 of 3 classes) is no failure."""
    return [
        f"{row.label} on {row.runtime}: {name} is missing: {metric.missing}"
        for row in rows
        for name, metric in row.metrics.items()
        if metric.missing and metric.provenance.get("error")
    ]
