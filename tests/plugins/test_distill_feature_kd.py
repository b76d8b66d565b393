"""`feature-kd` compares attention maps of the same layers, in networks of modules and in traced graphs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, SmallResidual, context, images, network
from torch import Tensor, nn
from torch.fx import GraphModule

from pqd_core import Batch, DataError, fit, task_loss
from pqd_core.task import CLASSIFICATION
from pqd_distill import FeatureKdSettings, feature_kd, pqd_stages
from pqd_distill.feature_kd import AttentionLoss, attention, compared_layers
from pqd_distill.taps import layer_names, tapped
from pqd_int8 import Int8QatSettings, int8_qat

SETTINGS = FeatureKdSettings(training=BRIEF)


def quantized(model: nn.Module) -> GraphModule:
    """`model` as the graph that `int8-qat` trains, calibrated."""
    around, settings = context(epochs=0), Int8QatSettings(training=BRIEF, calibration_images=64)
    graph = int8_qat.run(int8_qat.restructure(model, settings, around), settings, around)
    assert isinstance(graph, GraphModule)
    return graph


def test_a_map_sums_powers_over_the_channels_and_has_length_one() -> None:
    features = torch.tensor([[[[3.0, 0.0]], [[0.0, -2.0]]]])
    assert torch.allclose(attention(features, 1.0), torch.tensor([[3.0, 2.0]]) / 13**0.5)
    assert torch.allclose(attention(features, 2.0), torch.tensor([[9.0, 4.0]]) / 97**0.5)


def test_the_loss_is_the_labels_and_half_of_beta_times_the_mean_square_of_the_difference() -> None:
    own, taught = torch.rand(4, 3, 2, 2), torch.rand(4, 7, 2, 2)
    gap = float(((attention(own, 2.0) - attention(taught, 2.0)) ** 2).sum()) / (4 * 4)
    settings = SETTINGS.model_copy(update={"beta": 10.0})
    loss = AttentionLoss(network(), {"a": "b"}, {"a": own}, {"b": taught}, settings, task_loss(CLASSIFICATION))
    batch, logits = Batch(images(4), torch.arange(4)), torch.randn(4, 10)
    assert float(loss(logits, batch)) == pytest.approx(
        float(task_loss(CLASSIFICATION)(logits, batch)) + 5 * gap, rel=1e-5
    )


def test_the_last_layer_of_each_image_size_is_compared_if_none_is_named() -> None:
    pairs = compared_layers(network(), network(seed=1), SETTINGS, context())
    assert pairs == {"stem": "stem", "bn3": "bn3"}


@pytest.mark.parametrize("layers", [["stem"], ["stem", "stem.2"], ["conv1", "bn2", "bn3"]])
@torch.no_grad()
def test_a_traced_graph_has_the_same_values_at_the_same_names(layers: list[str]) -> None:
    model = network()
    graph = torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    traced = graph.module(check_guards=False)
    with tapped(model, layers) as expected, tapped(traced, layers) as found:
        assert torch.allclose(model(images(4)), traced(images(4)), atol=1e-6)
    assert sorted(found) == sorted(layers)
    for layer in layers:
        assert torch.allclose(found[layer], expected[layer], atol=1e-6), layer


def test_tapping_leaves_a_graph_as_it_was_even_after_an_error() -> None:
    graph = quantized(network())
    code, names, before = graph.code, [name for name, _ in graph.named_modules()], graph(images(4))

    def fails() -> None:
        with tapped(graph, ["stem", "bn3"]):
            assert graph.code != code
            assert torch.equal(graph(images(4)), before)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert graph.code == code
    assert [name for name, _ in graph.named_modules()] == names


def test_a_quantized_student_learns_to_attend_like_its_teacher() -> None:
    torch.manual_seed(0)
    teacher = fit(network(seed=1), context(epochs=6), BRIEF)
    student, taught = quantized(network(seed=2)), {k: v.clone() for k, v in teacher.state_dict().items()}
    layers = list(compared_layers(student, teacher, SETTINGS, context()))

    def gap() -> float:
        with torch.no_grad(), tapped(student, layers) as own, tapped(teacher, layers) as taught:
            student.eval()(images(160))
            teacher(images(160))
            return sum(float((attention(own[x], 2.0) - attention(taught[x], 2.0)).square().sum()) for x in layers)

    before, code, names = gap(), student.code, list(student.state_dict())
    around = context(epochs=6, teacher=teacher)
    trained = feature_kd.run(student, SETTINGS, around)
    assert gap() < 0.7 * before
    assert trained is student
    assert (student.code, list(student.state_dict())) == (code, names)
    assert all(torch.equal(tensor, taught[name]) for name, tensor in teacher.state_dict().items())
    log: Any = around.log
    assert log.calls[0].kwargs == {"layers": {"stem": "stem", "bn3": "bn3"}}


def test_the_labels_alone_bring_attention_less_near() -> None:
    torch.manual_seed(0)
    teacher = fit(network(seed=1), context(epochs=6), BRIEF)

    def gap_after(beta: float) -> float:
        student = feature_kd.run(
            network(seed=2), SETTINGS.model_copy(update={"beta": beta}), context(epochs=4, teacher=teacher)
        )
        with torch.no_grad(), tapped(student, ["bn3"]) as own, tapped(teacher, ["bn3"]) as taught:
            student(images(160))
            teacher(images(160))
            return float((attention(own["bn3"], 2.0) - attention(taught["bn3"], 2.0)).square().sum())

    assert gap_after(1000.0) < 0.7 * gap_after(1e-9)


def test_a_wider_teacher_and_other_names_are_no_hindrance(tmp_path: Path) -> None:
    class Renamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = SmallResidual(width=24)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner(images)
            return logits

    around = context(epochs=1, build=lambda backbone, checkpoint: Renamed())
    given = SETTINGS.model_copy(update={"teacher": SimpleNamespace(backbone="wide", checkpoint=tmp_path)})
    with pytest.raises(DataError, match="no layer of one name"):
        feature_kd.run(network(), given, around)
    named = given.model_copy(update={"layers": ("bn3",), "teacher_layers": ("inner.bn3",)})
    feature_kd.run(network(), named, around)
    assert around.history[0]["loss"] > 0


def test_layers_that_cannot_be_compared_are_all_named_before_training() -> None:
    asked = SETTINGS.model_copy(update={"layers": ("stem", "nothing", "head"), "teacher_layers": ("bn3", "bn3", "bn3")})
    around = context()
    with pytest.raises(DataError) as error:
        feature_kd.run(network(), asked, around)
    what = [problem.what for problem in error.value.problems]
    assert "(8, 8)" in what[0]
    assert "(4, 4)" in what[0]
    assert "'nothing'" in what[1]
    assert "'head'" in what[2]
    assert around.history == []


def test_the_layers_of_a_graph_are_those_of_the_modules_that_it_uses() -> None:
    graph = quantized(network())
    assert set(layer_names(graph)) <= set(layer_names(network()))
    assert {"stem", "stem.2", "bn3", "head.1"} <= set(layer_names(graph))


@pytest.mark.parametrize("settings", [{"beta": 0}, {"power": 0}, {"layers": ["a"], "teacher_layers": ["a", "b"]}])
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FeatureKdSettings(**settings)


def test_the_record_says_what_the_stage_is() -> None:
    record = next(record for record in pqd_stages() if record.name == "feature-kd")
    assert (record.kind, record.needs, record.given) == ("distill", ("trainable",), ())
    assert record.implementation() is feature_kd
