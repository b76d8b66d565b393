"""Each check of the kit can fail: parts that are wrong in one way are found by the check that is about it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from light import Nudge, NudgeSettings
from pydantic import ConfigDict, Field, field_serializer
from torch import nn

from pqd_core import (
    BackboneDef,
    CheckupDef,
    CommandDef,
    DatasetDef,
    Finding,
    MeasurerDef,
    MetricDef,
    Operator,
    PqdError,
    Problem,
    RecipeDef,
    RuntimeDef,
    Settings,
    StageDef,
)
from pqd_core.measure import Measurement
from pqd_core.testing import Case, CheckFailed, run_checks, toys
from pqd_core.testing.case import CHECKS
from pqd_core.testing.kit import _load_checks
from pqd_core.testing.toys import ToyBackbone, ToyBlobs, ToyMeasurer, ToyRuntime


@pytest.fixture(autouse=True, scope="module")
def _checks() -> None:
    _load_checks()


def stage(run: Callable[..., Any] | None = None, **fields: Any) -> StageDef:
    """A stage that does nothing, but for `run`."""
    own = type("Own", (Nudge,), {"run": staticmethod(run or (lambda model, settings, context: model))})
    return StageDef(**{"name": "own", "kind": "toy", "summary": "Does nothing.", "load": own, **fields})


def rehearsed(rehearse: Callable[..., None]) -> StageDef:
    """The stage `nudge` with a `rehearse`."""
    return stage(load=type("Own", (Nudge,), {"rehearse": staticmethod(rehearse)}), settings=NudgeSettings)


def with_settings(**fields: Any) -> StageDef:
    """The same with settings of these annotated fields."""
    annotations = {name: kind for name, (kind, _) in fields.items()}
    values = {name: value for name, (_, value) in fields.items()}
    return stage(settings=type("Own", (Settings,), {"__annotations__": annotations, "__module__": __name__, **values}))


def numpy_noise(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    with torch.no_grad():
        next(model.parameters()).add_(float(np.random.rand()))
    return model


def an_environment(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    os.environ["OWN_VARIABLE"] = str(int(os.environ.get("OWN_VARIABLE", 0)) + 1)
    return model


def outside_the_state(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    model.register_forward_hook(lambda module, inputs, logits: 2 * logits)
    return model


def painted(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    context.data.train.images[:] = 0
    return model


def drifting(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    return model


def only_convolutions(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    [*_, last] = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    last.weight.requires_grad_(True)
    return model


def too_strict(model: nn.Module, settings: Any, context: Any) -> None:
    raise PqdError(Problem("own", "is not liked"))


def by_epoch(model: nn.Module, settings: Any, context: Any) -> nn.Module:
    assert 1 / context.epochs
    return model


class Lossy(Settings):
    share: float = Field(0.123, description="A share.")

    @field_serializer("share")
    def _rounded(self, share: float) -> float:
        return share / 2


class Open(Settings):
    model_config = ConfigDict(extra="ignore")


def backbone(build: Callable[..., nn.Module]) -> BackboneDef:
    return BackboneDef(name="own", summary="A network.", load=type("Own", (), {"build": staticmethod(build)}))


def unused(settings: Any, info: Any) -> nn.Module:
    net = ToyBackbone.build(settings, info)
    net.spare = nn.Linear(2, 2)
    return net


def unseeded(settings: Any, info: Any) -> nn.Module:
    net = ToyBackbone.build(settings, info)
    nn.init.constant_(net.head.bias, float(np.random.rand()))
    return net


def dataset(change: Callable[[Any], Any]) -> DatasetDef:
    opened = staticmethod(lambda settings: change(ToyBlobs.open_data(toys.BlobSettings())))
    return DatasetDef(name="own", summary="Images.", load=type("Own", (), {"open_data": opened}))


def mislabelled(data: Any) -> Any:
    data.train.labels[0] = 99
    return data


def random_images(data: Any) -> Any:
    data.train.images[0] = np.random.default_rng().integers(0, 256, (1, 8, 8))
    return data


def runtime(**duties: Any) -> RuntimeDef:
    own = type("Own", (ToyRuntime,), {name: staticmethod(duty) for name, duty in duties.items()})
    return RuntimeDef(name="own", summary="Runs.", load=own)


def fixed_batch(model: nn.Module, example: Any, folder: Path, shared: Path, settings: Any) -> Path:
    torch.export.save(torch.export.export(model, (example,)), folder / "toy.pt2")
    return folder / "toy.pt2"


def elsewhere(model: nn.Module, example: Any, folder: Path, shared: Path, settings: Any) -> Path:
    return ToyRuntime.export(model, example, shared, shared, settings)


def in_training(model: nn.Module, example: Any, folder: Path, shared: Path, settings: Any) -> Path:
    file = ToyRuntime.export(model, example, folder, shared, settings)
    model.train()
    return file


def tuned(to: Callable[..., Any]) -> RuntimeDef:
    return evolve(runtime(), tuned_to=to)


def by_shape(file: Path, settings: Any, shape: tuple[int, ...] = (1, 1, 1)) -> list[Operator]:
    return [Operator("conv", "Conv", "compute", integer=False, macs=math.prod(shape))]


def measurer(change: Callable[[Measurement], Any]) -> MeasurerDef:
    def measure(candidates: Any, settings: Any, context: Any) -> Any:
        return [[change(number) for number in row] for row in ToyMeasurer.measure(candidates, settings, context)]

    metrics = (MetricDef("accuracy", "1", "higher"), MetricDef("other", "1", "higher", headline=False))
    own = type("Own", (), {"measure": staticmethod(measure)})
    return MeasurerDef(name="own", summary="Measures.", load=own, metrics=metrics)


def recipe(**fields: Any) -> RecipeDef:
    spec = {"backbone": "resnet20", "dataset": "digits", "stages": ["magnitude"], "runtimes": ["onnxruntime"]}
    return RecipeDef(**{"name": "own", "summary": "Runs.", **({} if "parts" in fields else {"spec": spec}), **fields})


def command(load: Callable[..., None], example: str = "pqd own") -> CommandDef:
    return CommandDef(name="own", summary="Does it.", load=load, example=example)


def careless(file: str) -> None:
    raise KeyError(file)


def mute(file: str) -> None:
    raise SystemExit(3)


def checkup(*findings: Any, act: Callable[[], Any] = lambda: None) -> CheckupDef:
    def look() -> Iterator[Any]:
        act()
        yield from findings

    return CheckupDef(name="own", summary="Looks.", load=look)


WELL = Finding("all is well")


WRONG = [
    (stage(summary="Two. Sentences."), "summary-is-one-sentence", "more than one sentence"),
    (stage(summary="No period"), "summary-is-one-sentence", "end with a period"),
    (with_settings(a=(int, 1)), "settings-are-described", "without a description: a"),
    (with_settings(a=(int, Field(0, ge=1, description="A."))), "defaults-are-legal", "greater than or equal to 1"),
    (stage(settings=Open), "settings-refuse-unknown-keys", "took the unknown key"),
    (stage(settings=Lossy), "settings-round-trip", "was read back as"),
    (stage(load=object()), "implementation-has-its-duties", "has no function restructure"),
    (stage(lambda model: model), "implementation-has-its-duties", "cannot be called with 3 arguments"),
    (stage(load="pqd_core.testing.trial:Trial"), "root-imports-no-torch", ""),
    (stage(gives=("sparse",)), "declared-facts-hold", "promised to give 'sparse', but no mask was left"),
    (stage(ends=("plain-modules",)), "ended-facts-are-gone", "ends 'plain-modules', but the model is still"),
    (stage(lambda m, s, c: None), "duties-give-back-a-model", "run gave back a NoneType"),
    (stage(drifting), "declared-facts-hold-after-pruning", "pruned weights are no longer zero"),
    (stage(numpy_noise), "same-seed-same-result", "two runs differ in"),
    (stage(numpy_noise), "leaves-the-process-alone", "the random state of numpy"),
    (stage(an_environment), "leaves-the-process-alone", r"the environment \(OWN_VARIABLE\)"),
    (stage(painted), "leaves-its-input-alone", "images were changed in place"),
    (stage(outside_the_state), "survives-save-and-load", "answers otherwise than the trained one"),
    (stage(only_convolutions), "refuses-with-a-reason", "raised ValueError"),
    (rehearsed(too_strict), "rehearsing-takes-what-run-takes", "refuses what run takes: own: is not liked"),
    (rehearsed(lambda model: None), "implementation-has-its-duties", "rehearse cannot be called with 3 arguments"),
    (backbone(lambda s, info: nn.Flatten()), "gives-logits", r"gives \(1, 64\) for 1 images, 5 classes"),
    (backbone(unused), "every-parameter-learns", "no gradient reaches spare.weight"),
    (backbone(unseeded), "same-seed-same-weights", "differ in head.bias"),
    (dataset(random_images), "same-settings-same-data", "different train images"),
    (runtime(export=elsewhere), "file-lies-in-its-folder", "is not in the folder"),
    (runtime(export=in_training), "exporting-leaves-the-model-alone", "has changed the model"),
    (runtime(weights=lambda file: {}), "weights-are-those-of-the-layers", "expected"),
    (runtime(execution=lambda file, settings: ["Conv"]), "what-is-run-can-be-told", "something else than Operators"),
    (runtime(execution=lambda file, settings: []), "what-is-run-can-be-told", "no operator of execution multiplies"),
    (runtime(execution=by_shape), "what-is-run-can-be-told", "the shape that the file has anyway"),
    (tuned(lambda settings, threads: None), "tuning-is-told-alike", "gave a NoneType, not a mapping"),
    (tuned(lambda settings, threads: {"at": time.monotonic_ns()}), "tuning-is-told-alike", "gave .*, then"),
    (tuned(lambda settings, threads: {"where": Path("here")}), "tuning-is-told-alike", "no plain JSON"),
    (measurer(lambda number: number), "gives-the-metrics-of-its-record", "the record has"),
    (recipe(summary="No period"), "summary-is-one-sentence", "end with a period"),
    (recipe(spec={"backbone": "resnot20", "dataset": "digits"}), "spec-can-be-planned", "own has no plan: .*resnet20"),
    (recipe(spec="pqd_core.testing:nowhere.yaml"), "spec-can-be-planned", "nowhere.yaml: cannot be read"),
    (recipe(parts=("nowhere",)), "spec-can-be-planned", "its part nowhere is no recipe"),
    (command(lambda: None, example="pqd other"), "help-says-what-it-does", "does not call `pqd own`: pqd other"),
    (command(careless), "wrong-arguments-are-refused-with-a-reason", "a traceback of KeyError"),
    (command(mute), "wrong-arguments-are-refused-with-a-reason", "ends with 3 and says nothing"),
    (checkup(), "answers-soon", "tells nothing"),
    (checkup(WELL, act=lambda: time.sleep(2)), "answers-soon", "no answer within"),
    (checkup("all is well"), "findings-say-what-is-so-and-what-to-do", "gave a str, not a Finding"),
    (checkup(Finding("it is not", ok=False)), "findings-say-what-is-so-and-what-to-do", "says no way out: it is not"),
    (checkup(Finding("two\nlines")), "findings-say-what-is-so-and-what-to-do", "is not one line"),
    (checkup(WELL, act=lambda: np.random.rand()), "looking-leaves-the-process-alone", "the random state of numpy"),
    (measurer(lambda number: 7), "numbers-are-finite-or-missing-with-a-reason", "failed: own failed: TypeError"),
]


@pytest.mark.parametrize(("record", "check", "says"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_found(record: Any, check: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_VARIABLE", "0")
    monkeypatch.setattr("pqd_core.testing.checks.checkups.LIMIT_S", 0.5)
    if check == "root-imports-no-torch":
        record, says = stage(load="light"), "importing light imports torch"
    with pytest.raises(CheckFailed, match=says):
        CHECKS[check](Case(record))


@pytest.mark.parametrize(
    ("record", "check", "error"),
    [
        (stage(by_epoch), "runs-without-epochs", ZeroDivisionError),
        (stage(load="nowhere.at.all"), "implementation-has-its-duties", ModuleNotFoundError),
        (dataset(mislabelled), "data-is-what-it-says", Exception),
        (runtime(export=fixed_batch), "file-answers-as-its-model", AssertionError),
    ],
)
def test_what_a_part_raises_is_shown_as_it_is(record: Any, check: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        CHECKS[check](Case(record))


@pytest.mark.parametrize(
    "record",
    [recipe(), recipe(parts=("quickstart",)), command(lambda: None), checkup(WELL, Finding("a", False, "b"))],
    ids=["a recipe", "a recipe of parts", "a command", "a checkup"],
)
def test_what_is_right_passes(record: Any) -> None:
    assert [str(outcome) for outcome in run_checks(record) if not outcome.ok] == []


PLUGIN_TEST = """
from attrs import evolve
from pqd_core.testing import Case, parametrize_with_checks, toys

[TUNE] = toys.pqd_stages()
BAD = evolve(TUNE, summary="No period")

@parametrize_with_checks([Case(BAD, expect={"summary-is-one-sentence": "on purpose", "settings-are-frozen": "a lie"})])
def test_contract(check):
    if check.func.name in ("summary-is-one-sentence", "settings-are-frozen"):
        check()

def test_untouched(pqd_untouched):
    import os
    os.environ["OWN_VARIABLE"] = "left behind"

def test_fixtures(pqd_host, pqd_project, pqd_backbone, pqd_data):
    assert pqd_project.host is pqd_host
    assert pqd_backbone(__import__("torch").zeros(2, *pqd_data.info.shape)).shape == (2, 3)
"""


def test_an_expected_failure_is_strict_and_a_test_that_changes_the_process_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLUGIN_TEST)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", "-rA")
    told = done.stdout.str()
    assert "XFAIL" in told
    assert "on purpose" in told
    assert "[XPASS(strict)] a lie" in told
    assert "the test changed the environment (OWN_VARIABLE" in told
    assert "PASSED" in told.partition("test_fixtures")[0]
