"""A network that a stage cannot trace is refused before anything is trained."""

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
from pqd_core.host.errors import PlanError
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
