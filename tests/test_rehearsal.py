"""What a stage cannot do with a network, or with what it is told to do, is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench
from light import Nudge, stage_record
from torch import nn

from pqd_core import PqdError, Problem, compress
from pqd_core.artifact import Store
from pqd_core.context import RunContext
from pqd_core.host.errors import PlanError
from pqd_core.host.rehearsal import rehearse
from pqd_core.plan import build_plan
from pqd_core.testing import Project
from pqd_core.testing.toys import BlobSettings, ToyBlobs


def refuse(*_: Any) -> nn.Module:
    raise PqdError(Problem("trace: Net", "cannot be traced", "write it otherwise"))


def stumble(*_: Any) -> nn.Module:
    raise RuntimeError("no such operator")


def add_trace(bench: Bench, restructure: Callable[..., nn.Module] = refuse, **fields: Any) -> list[int]:
    """The stage `trace`, and the number of times that it was asked to restructure a network."""
    asked: list[int] = []

    class Trace(Nudge):
        @staticmethod
        def restructure(model: nn.Module, settings: Any, context: Any) -> nn.Module:
            asked.append(1)
            return restructure(model, settings, context)

    bench.host.add("given", stage_record("trace", Trace, **{"ends": ("plain-modules",), **fields}))
    return asked


def steps(bench: Bench) -> list[Path]:
    return list((bench.store / "steps").glob("*/*/manifest.json"))


def test_what_cannot_be_traced_is_refused_before_the_baseline_is_made(bench: Bench) -> None:
    add_trace(bench)
    with pytest.raises(PlanError, match="trace: Net: cannot be traced; write it otherwise") as error:
        bench.run(bench.spec(stages=["nudge", "trace"]))
    assert "nothing has been trained; change what is named above, or leave trace out" in str(error.value)
    assert steps(bench) == []


def test_a_stage_that_stumbles_over_the_untrained_network_is_told_with_its_error(bench: Bench) -> None:
    add_trace(bench, stumble)
    with pytest.raises(PlanError, match="trace: raised RuntimeError: no such operator"):
        bench.run(bench.spec(stages=["nudge", "trace"]))


def test_a_stage_that_restructures_by_the_trained_baseline_is_not_tried_without_it(bench: Bench) -> None:
    def by_baseline(model: nn.Module, settings: Any, context: Any) -> nn.Module:
        context.baseline()
        return model

    asked = add_trace(bench, by_baseline, ends=(), needs=("plain-modules",))
    report = bench.run(bench.spec(stages=["nudge", "trace"]))
    assert report.rows[-1].label == "nudge -> trace"
    assert len(asked) > 1


def test_a_stage_is_tried_on_what_the_stages_before_leave(bench: Bench) -> None:
    class Split(Nudge):
        @staticmethod
        def restructure(model: nn.Module, settings: Any, context: Any) -> nn.Module:
            return nn.Sequential(model, nn.Identity())

    seen: list[str] = []

    def look(model: nn.Module, settings: Any, context: Any) -> nn.Module:
        seen.append(type(model).__name__)
        raise PqdError(Problem("trace", "has seen enough"))

    bench.host.add("given", stage_record("split", Split))
    add_trace(bench, look)
    with pytest.raises(PlanError, match="has seen enough"):
        bench.run(bench.spec(stages=["split", "trace"]))
    assert seen == ["Sequential"]
    assert steps(bench) == []


def test_a_study_tries_a_stage_once(bench: Bench) -> None:
    asked = add_trace(bench)
    with pytest.raises(PlanError):
        bench.run(bench.spec(stages=["nudge", "trace"], study="full", seeds=[0, 1]))
    assert len(asked) == 1


def test_a_stage_that_needs_another_stage_is_not_tried_alone(bench: Bench) -> None:
    bench.host.add("given", stage_record("mask", gives=("masked",), needs=()))
    add_trace(bench, needs=("masked",))
    with pytest.raises(PqdError) as error:
        bench.run(bench.spec(stages=["mask", "trace"]))
    assert not isinstance(error.value, PlanError)


def test_where_the_step_before_is_in_the_store_nothing_is_tried(bench: Bench) -> None:
    bench.run(bench.spec(stages=["nudge"]))
    asked = add_trace(bench)
    with pytest.raises(PqdError, match="stopped here"):
        bench.run(bench.spec(stages=["nudge", "trace"]))
    assert len(asked) == 1  # by the step itself


class Branching(nn.Module):
    """What it computes depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = images.mean((2, 3))
        logits: torch.Tensor = self.layer(pooled if pooled.sum() > 0 else -pooled)
        return logits


def test_int8_of_an_own_network_that_branches_is_refused_untrained(tmp_path: Path) -> None:
    blobs = ToyBlobs.open_data(BlobSettings(images=96))
    train, test = ((part.images, part.labels) for part in (blobs.train, blobs.test))  # type: ignore[union-attr]
    with pytest.raises(PlanError, match=r"int8-qat: .*cannot trace this network") as error:
        compress(Branching(), train, test, ["magnitude", "int8-qat"], out=tmp_path / "out", store=tmp_path / "store")
    assert "must not branch on the values of tensors" in str(error.value)
    assert not list((tmp_path / "store" / "steps").glob("*/*/manifest.json"))


def add_rehearsed(bench: Bench, name: str, rehearse: Callable[..., object]) -> None:
    """A stage that has something to say of the untrained network."""
    bench.host.add("given", stage_record(name, type("Own", (Nudge,), {"rehearse": staticmethod(rehearse)})))


def object_to(where: str) -> Callable[..., object]:
    def rehearse(*_: Any) -> None:
        raise PqdError(Problem(where, "fits no layer"))

    return rehearse


def test_what_stages_say_of_the_untrained_network_is_told_at_once(bench: Bench) -> None:
    add_rehearsed(bench, "strict", object_to("strict.include"))
    add_rehearsed(bench, "stern", object_to("stern.layers"))
    with pytest.raises(PlanError) as error:
        bench.run(bench.spec(stages=["nudge", "strict", "stern"], study="full", seeds=[0, 1]))
    *told, advice = error.value.problems
    assert sorted(problem.where for problem in told) == ["stern.layers", "strict.include"]
    assert "leave strict and stern out of the stages" in advice.hint
    assert steps(bench) == []


def test_a_rehearsal_is_handed_an_untrained_baseline(bench: Bench) -> None:
    found: list[nn.Module] = []
    add_rehearsed(bench, "curious", lambda model, settings, context: found.append(context.baseline()))
    assert bench.run(bench.spec(stages=["nudge", "curious"])).complete
    assert [type(baseline).__name__ for baseline in found] == ["ToyNet"]


def test_a_stage_that_needs_evidence_is_not_rehearsed(bench: Bench) -> None:
    bench.host.add("given", stage_record("mask", gives=("masked",), needs=()))
    own = type("Own", (Nudge,), {"rehearse": staticmethod(object_to("late"))})
    bench.host.add("given", stage_record("late", own, needs=("masked",)))
    rehearse(RunContext(build_plan(bench.spec(stages=["mask", "late"]), bench.host), Store(bench.store), bench.host))


def test_a_network_is_restructured_once_for_all_stages_orders_and_seeds(bench: Bench) -> None:
    asked = add_trace(bench, lambda model, settings, context: nn.Sequential(model), ends=("plain-modules",))
    seen: list[str] = []
    add_rehearsed(bench, "look", lambda model, settings, context: seen.append(type(model).__name__))
    plan = build_plan(bench.spec(stages=["look", "nudge", "trace"], study="full", seeds=[0, 1]), bench.host)
    rehearse(RunContext(plan, Store(bench.store), bench.host))
    assert sorted(seen) == ["Sequential", "ToyNet"]
    assert len(asked) == 1


def told(project: Project, *stages: Any) -> set[str]:
    """What is refused of a pipeline before its baseline is trained, with places and without hints."""
    with pytest.raises(PlanError) as error:
        project.run(project.spec(stages=list(stages), budget={"epochs": 9}))
    assert not list((project.store / "steps").glob("*/*/manifest.json"))
    return {f"{problem.where}: {problem.what}" for problem in error.value.problems[:-1]}


GLOBS = {"include": ["*", "cnov"], "exclude": ["haed"]}


def test_globs_of_bundled_stages_that_fit_no_layer_are_all_told_untrained(pqd_project: Project) -> None:
    names = ["magnitude", "n-m", "lottery", "channel"]
    assert told(pqd_project, *({"use": name, **GLOBS} for name in names)) == {
        f"{name}.{field}: {glob!r} fits no layer"
        for name in names
        for field, glob in (("include", "cnov"), ("exclude", "haed"))
    }


def test_globs_are_tried_on_the_graph_that_int8_leaves(pqd_project: Project) -> None:
    masked, attending = {"use": "magnitude", "include": ["cnov"]}, {"use": "feature-kd", "layers": ["cnov"]}
    assert told(pqd_project, "int8-qat", masked, attending) == {
        "magnitude.include: 'cnov' fits no layer",
        "feature-kd.layers: the network has no layer 'cnov' that gives an image",
        "feature-kd.layers: the teacher has no layer 'cnov' that gives an image",
    }


def test_rewinding_beyond_the_stage_s_epochs_is_told_untrained(pqd_project: Project) -> None:
    [problem] = told(pqd_project, {"use": "lottery", "epochs": 2, "rewind": "weights", "rewind_epochs": 2})
    assert problem.startswith("lottery.rewind_epochs: 2 epochs of early training leave nothing")


@pytest.mark.parametrize("stage", ["logit-kd", "dkd", "feature-kd"])
def test_a_teacher_whose_checkpoint_does_not_fit_is_told_untrained(stage: str, pqd_project: Project) -> None:
    junk, other = pqd_project.folder / "junk.pt", pqd_project.folder / "other.pt"
    junk.write_bytes(b"no checkpoint")
    torch.save({"elsewhere": torch.zeros(1)}, other)
    [problem] = told(pqd_project, {"use": stage, "teacher": {"backbone": "toy-net", "checkpoint": str(junk)}})
    assert problem.startswith(f"{junk}: is no readable checkpoint")
    problems = told(pqd_project, {"use": stage, "teacher": {"backbone": "toy-net", "checkpoint": str(other)}})
    assert f"{other}: has no conv.weight" in problems
