"""All six orders of pruning, quantizing and distilling, from the spec to the deployed files and their numbers."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from attrs import frozen

from pqd_core import Report, Spec, run
from pqd_core.artifact import Artifact, Store
from pqd_core.batches import eval_batches
from pqd_core.context import RunContext
from pqd_core.model import freeze, read_evidence, rebuild
from pqd_core.plan import Step, build_plan
from pqd_core.report import Row

STAGES = ("magnitude", "int8-qat", "logit-kd")
ORDERS = list(permutations(STAGES))
SPARSITY = 0.7
pytestmark = pytest.mark.xdist_group("orders")  # so that the orders share the steps that they have in common


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@frozen(eq=False)
class Finished:
    """One order, run to its end."""

    report: Report
    context: RunContext
    step: Step
    artifact: Artifact


@pytest.fixture(scope="module", params=ORDERS, ids=" ".join)
def finished(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    spec = Spec.model_validate(
        {
            "backbone": {"use": "resnet20", "width": 0.5},
            "dataset": "digits",
            "baseline": {"epochs": 8, "batch_size": 32, "lr": 0.1},
            "stages": [{"use": stage, "training": {"batch_size": 32, "lr": 0.02}} for stage in request.param],
            "budget": {"epochs": 3},
            "runtimes": ["onnxruntime", "openvino"],
            "measure": ["accuracy", "size", "sparsity"],
            "threads": 1,
        }
    )
    report = run(spec, tmp_path_factory.mktemp("run"), store=store)
    context = RunContext(build_plan(spec), Store(store))
    step = context.plan.steps[-1]
    artifact = context.store.find("steps", step.key)
    assert artifact is not None
    return Finished(report, context, step, artifact)


def last_rows(finished: Finished) -> list[Row]:
    """The whole pipeline's rows, one per runtime."""
    rows = [row for row in finished.report.rows if row.step == finished.step.key]
    assert [row.runtime for row in rows] == ["onnxruntime", "openvino"]
    return rows


def test_the_run_is_complete_and_has_a_row_for_every_step_and_runtime(finished: Finished) -> None:
    assert finished.report.problems == []
    assert len(finished.report.rows) == 4 * 2


def test_the_deployed_files_are_as_accurate_as_the_frozen_network(finished: Finished) -> None:
    context = finished.context
    model = freeze(rebuild(finished.artifact, finished.step, context), finished.step, context)
    hits = total = 0
    for batch in eval_batches(context.data().test, context.info, 64):
        with torch.inference_mode():
            hits += int((model(batch.inputs).argmax(1) == batch.targets).sum())
        total += len(batch)
    for row in last_rows(finished):
        assert row.value("accuracy") == pytest.approx(hits / total, abs=0.005)
        assert row.parity["changed_predictions"] <= 0.01


def test_the_deployed_int8_weights_are_zero_wherever_the_mask_is(finished: Finished) -> None:
    masks = {name: mask.bool().numpy() for name, mask in read_evidence(finished.artifact)["sparse"].items()}
    assert len(masks) == 22  # convolutions and the linear layer, of which two are shortcuts
    for row in last_rows(finished):
        runtime = finished.context.host.registry("runtime").find(row.runtime).record.implementation()
        weights = runtime.weights(finished.report.folder / row.file)
        pruned = {name: weights[name.removesuffix(".weight")] for name in masks}
        assert all(weight.dtype == np.int8 for weight in pruned.values())
        assert all(not pruned[name].reshape(mask.shape)[~mask].any() for name, mask in masks.items())
        assert row.value("sparsity") == pytest.approx(SPARSITY, abs=0.01)


def test_the_int8_file_is_much_smaller_than_the_float_file(finished: Finished) -> None:
    for row in last_rows(finished):
        dense = finished.report.dense(row)
        assert dense is not None
        assert (row.value("size_bytes") or 0) < 0.75 * (dense.value("size_bytes") or 0)


def test_prefixes_that_two_orders_share_are_run_once(finished: Finished) -> None:
    made = {record.key for record in finished.report.steps if not record.reused}
    earlier = ORDERS[: ORDERS.index(finished.step.pipeline)]
    shared = {step.key for step in finished.context.plan.steps if any(_begins(order, step) for order in earlier)}
    assert not made & shared


def _begins(order: tuple[str, ...], step: Step) -> bool:
    return order[: len(step.pipeline)] == step.pipeline
