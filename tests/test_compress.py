"""`compress` takes whatever network and data a person has, and leaves both alone."""

from __future__ import annotations

import copy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pqd_core import Compressed, PqdError, Report, compress
from pqd_core.host.errors import DataError, PlanError, SpecError
from pqd_core.host.own_data import own_dataset
from pqd_core.host.own_network import own_backbone
from pqd_core.host.plugins import Host
from pqd_core.testing.toys import BlobSettings, ToyBlobs, ToyNet

BLOBS = ToyBlobs.open_data(BlobSettings(images=96))
TRAIN, TEST = ((part.images, part.labels) for part in (BLOBS.train, BLOBS.test))  # type: ignore[union-attr]
LIGHT = {"runtimes": ["light"], "measure": ["toy-accuracy", "light-size"], "show_progress": False}
SMALLER = {"metric": "size_bytes", "max_accuracy_drop": 0.99}


@pytest.fixture
def press(host: Host, tmp_path: Path) -> Any:
    """`compress` with light parts, in the test's own folder."""

    def press(
        model: nn.Module, train: Any = TRAIN, test: Any = TEST, stages: Any = ("nudge",), **how: Any
    ) -> Compressed:
        places = {"out": tmp_path / "out", "store": tmp_path / "store", "host": host}
        return compress(model, train, test, stages, **{"goal": SMALLER, **places, **LIGHT, **how})

    return press


def ready(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float() / 255


class Images(Dataset[tuple[Tensor, int]]):
    """A dataset of a person's own, without `targets`."""

    def __len__(self) -> int:
        return len(TRAIN[1])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return ready(TRAIN[0][index]), int(TRAIN[1][index])


TENSORS = TensorDataset(ready(TRAIN[0]), torch.from_numpy(TRAIN[1]))


@pytest.mark.parametrize(
    "train",
    [TRAIN, (torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])), (ready(TRAIN[0]), TRAIN[1]), TENSORS, Images(),
     DataLoader(TENSORS, batch_size=8)],
    ids=["arrays", "tensors", "floats", "tensor-dataset", "dataset", "loader"],
)  # fmt: skip
def test_any_form_of_data_is_taken(press: Any, train: Any) -> None:
    found = press(ToyNet(1, 3), train, (ready(TEST[0]), TEST[1]))
    assert found.report.complete, found.report.problems
    assert {row.pipeline for row in found.report.rows} == {(), ("nudge",)}


def test_the_person_s_network_is_never_changed(press: Any) -> None:
    model = ToyNet(1, 3).train()
    before = copy.deepcopy(model.state_dict())
    press(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_dense_network_is_the_person_s_own_with_its_weights(press: Any) -> None:
    model = ToyNet(1, 3).eval()
    found = press(model, stages=())
    images = ready(TEST[0])
    assert torch.equal(found.model(images), model(images))


def test_the_best_pipeline_comes_with_its_file_and_its_network(press: Any) -> None:
    found = press(ToyNet(1, 3))
    assert found.best is not None
    assert found.best.file.is_file()
    assert found.files[found.best.label, "light"].resolve() == found.best.file.resolve()
    assert isinstance(found.model, nn.Module)
    assert not found.model.training


def test_a_goal_that_nobody_reaches_gives_the_report_and_no_network(press: Any) -> None:
    goal = {"metric": "size_bytes", "max_accuracy_drop": 0.0}
    torch.manual_seed(0)
    found = press(ToyNet(1, 3), stages=[{"use": "nudge", "by": 1.0}], goal=goal)
    reached = [row for row in found.report.rows if row.value("accuracy") >= found.report.rows[0].value("accuracy")]
    assert (found.best is None) == (not reached)
    assert found.report.rows


def test_the_best_is_that_of_the_first_goal_in_whatever_form_it_came(press: Any, monkeypatch: Any) -> None:
    asked, best = list[tuple[Any, ...]](), Report.best
    monkeypatch.setattr(Report, "best", lambda report, *wanted: (asked.append(wanted), best(report, *wanted))[1])
    goal = {"metric": "size", "max-accuracy-drop": 0.25, "runtime": "light"}
    assert press(ToyNet(1, 3), goals=[goal, SMALLER]).best is not None
    assert press(ToyNet(1, 3), goal={"metric": "size"}).best is not None
    assert press(ToyNet(1, 3), goals=[]).best is None
    assert asked == [("size_bytes", 0.25, "light"), ("size_bytes", 1.0, None)]


def test_the_same_request_is_not_computed_again_and_another_network_or_data_is(press: Any) -> None:
    torch.manual_seed(0)
    model = ToyNet(1, 3)
    press(model)
    assert all(step.reused for step in press(copy.deepcopy(model)).report.steps)
    other = copy.deepcopy(model)
    other.head.bias.data += 1
    assert not any(step.reused for step in press(other).report.steps)
    images = TRAIN[0].copy()
    images[-1] ^= 1
    assert not any(step.reused for step in press(model, (images, TRAIN[1])).report.steps)


NET = """
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return {what}.flatten(1)
"""


def test_the_code_of_a_network_is_part_of_its_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(place: str, what: str) -> str:
        (tmp_path / place).mkdir()
        (tmp_path / place / "person_net.py").write_text(NET.format(what=what))
        monkeypatch.setattr(sys, "path", [str(tmp_path / place), *sys.path])
        monkeypatch.delitem(sys.modules, "person_net", raising=False)
        return str(own_backbone(import_module("person_net").Net(), "m").identity()["fingerprint"])

    first, louder, again = digest("one", "x"), digest("two", "(2 * x)"), digest("three", "x")
    assert first == again
    assert first != louder


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ((TRAIN[0][:, 0], TRAIN[1]), "train_data: holds images (96, 8, 8)"),
        ((TRAIN[0], TRAIN[1][:5]), "and labels (5,)"),
        ((TRAIN[0][:0], TRAIN[1][:0]), "train_data: holds images (0, 1, 8, 8)"),
        (iter([]), "which cannot be shuffled and counted"),
        ([], "train_data: holds no image"),
        ([(np.zeros((8, 8)), 1)] * 3, "an image of type ndarray"),
        ([1, 2, 3], "the first item is a int"),
        ([(torch.zeros(1, 8, 8, dtype=torch.uint8), 1)] * 3, "of torch.uint8"),
    ],
)
def test_data_of_another_form_is_refused_in_a_sentence(press: Any, train: Any, told: str) -> None:
    with pytest.raises(DataError) as error:
        press(ToyNet(1, 3), train)
    assert told in str(error.value)


def test_problems_of_both_parts_are_told_at_once() -> None:
    with pytest.raises(DataError) as error:
        own_dataset([], [1], "d")
    assert [problem.where for problem in error.value.problems] == ["train_data", "test_data"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (nn.Linear(3, 3), "does not take images (2, 1, 8, 8)"),
        (nn.Identity(), "gives (2, 1, 8, 8) for 2 images"),
        ("resnet18", "is a str, not a torch.nn.Module"),
    ],
)
def test_a_network_for_other_data_is_refused_in_a_sentence(press: Any, model: Any, told: str) -> None:
    with pytest.raises(DataError) as error:
        press(model)
    assert told in str(error.value)


def test_labels_beyond_the_network_s_outputs_are_told(press: Any) -> None:
    with pytest.raises(DataError, match="expected 0 to 1"):
        press(ToyNet(1, 2))


@pytest.mark.parametrize(
    ("how", "kind"),
    [({"sedes": [1]}, SpecError), ({"stages": ["nugde"]}, SpecError), ({"goal": {"metric": "latencee"}}, SpecError)],
)
def test_wrong_settings_are_told_as_in_a_spec(press: Any, how: dict[str, Any], kind: type[PqdError]) -> None:
    with pytest.raises(kind, match=r"did you mean|known"):
        press(ToyNet(1, 3), **how)


def test_an_illegal_order_is_told(press: Any, host: Host) -> None:
    from light import stage_record

    host.add("given", stage_record(name="ender", ends=("trainable",)))
    with pytest.raises(PlanError, match="nearest legal order"):
        press(ToyNet(1, 3), stages=["ender", "nudge"])
