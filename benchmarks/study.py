"""The time of a full study against the same pipelines run one by one, each in its own empty store.

    python benchmarks/study.py [--set key=value ...]

Every pipeline of the study is run as a spec of its own, with the epochs that its stages have in the study. What was run
is counted from the stores and compared with what the plan promises. Imports are done before; latency is not measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import asdict
from evidence import write_result

from pqd_core.artifact import Store
from pqd_core.host.read_spec import parse_spec, read_spec
from pqd_core.plan import Plan, Step, Work, build_plan
from pqd_core.report import Report
from pqd_core.run import run
from pqd_core.spec import Spec

SMALL = [
    "study=full",
    "backbone={use: resnet20, width: 0.5}",
    "baseline={epochs: 4, batch_size: 64, lr: 0.1}",
    "budget={epochs: 5, split: [20, 40, 40]}",
    "runtimes=[onnxruntime]",
    "measure=[accuracy, size]",
]


def timed(spec: Spec, folder: Path) -> tuple[float, Report, Work, Work]:
    """Seconds of a run in an empty store, its report, and the stages and baselines that the store then holds."""
    began = time.perf_counter()
    report = run(spec, folder / "run", store=folder / "store")
    seconds = time.perf_counter() - began
    steps = [about for _, about in Store(folder / "store").remembered("steps")]
    stages, baselines = ([s["epochs"] for s in steps if bool(s["stage"]) == staged] for staged in (True, False))
    return seconds, report, Work(len(stages), sum(stages)), Work(len(baselines), sum(baselines))


def by_itself(spec: Spec, plan: Plan, last: Step) -> Spec:
    """The pipeline that ends with `last`, as a spec of its own."""
    stages = [{**s.stage.flat(), "epochs": s.epochs} for s in plan.path_to(last) if s.stage]
    raw: dict[str, Any] = spec.model_dump(mode="json")
    alone = parse_spec({**raw, "study": "as-written", "stages": stages, "budget": {}})
    assert build_plan(alone).steps[-1].key == last.key, "the same request"
    return alone


def added(works: list[Work]) -> dict[str, int]:
    """The sum of several amounts of work."""
    return asdict(Work(sum(work.stage_runs for work in works), sum(work.epochs for work in works)))


def main() -> None:
    """Run the study, then each pipeline, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    spec = read_spec("quickstart", [*SMALL, *parser.parse_args().overrides])
    plan = build_plan(spec)
    with tempfile.TemporaryDirectory() as scratch:
        run(
            spec.model_copy(update={"stages": (), "study": "as-written"}),
            Path(scratch) / "0",
            store=Path(scratch) / "s",
        )
        shared, report, stages, baseline = timed(spec, Path(scratch) / "study")
        print(f"study: {shared:.1f} s")
        alone, works, baselines = {}, [], []
        for key in plan.pipelines:
            step = plan.step(key)
            alone[step.label], own, work, dense = timed(by_itself(spec, plan, step), Path(scratch) / step.label)
            works.append(work)
            baselines.append(dense)
            assert own.rows[-1].value("accuracy") == next(r for r in report.rows if r.step == key).value("accuracy")
            print(f"{step.label}: {alone[step.label]:.1f} s")
    counted = {"study": asdict(stages), "alone": added(works)}
    promised = {"study": asdict(plan.shared), "alone": asdict(plan.alone)}
    assert counted == promised, (counted, promised)
    numbers = {
        "spec": spec.model_dump(mode="json"),
        "pipelines": len(plan.pipelines),
        "counted_from_the_stores": counted,
        "promised_by_the_plan": promised,
        "baselines": {"study": asdict(baseline), "alone": added(baselines)},
        "study_seconds": shared,
        "alone_seconds": sum(alone.values()),
        "ratio": sum(alone.values()) / shared,
        "alone_seconds_by_pipeline": alone,
    }
    print(f"one by one {sum(alone.values()):.0f} s, study {shared:.0f} s: {numbers['ratio']:.2f}x")
    write_result("study", numbers, threads=report.environment["threads"], seeds=list(spec.seeds))


if __name__ == "__main__":
    main()
