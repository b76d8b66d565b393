"""`channel` takes out channels that nothing misses, down to the asked work, and a saved network finds its widths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_kit import BRIEF, INFO, LAYERS, SmallResidual, context, images, network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import SwinTransformer

from pqd_channel import ChannelSettings, channel, pqd_stages
from pqd_channel.choose import choose_channels
from pqd_channel.groups import Group, dependencies, prunable_groups, worth
from pqd_channel.narrow import probe, resize
from pqd_channel.remove import remove
from pqd_channel.work import Work, macs, measure_work
from pqd_core import PqdError, StageContext
from pqd_core.facts import probe_sparse
from pqd_prune import MagnitudeSettings, magnitude
from pqd_vision import resnet20, vgg16_bn, wrn_28_10
from pqd_vision.settings import Width

EXAMPLE = torch.zeros(2, 1, 8, 8)


def narrowed(model: nn.Module, around: StageContext | None = None, **settings: Any) -> nn.Module:
    """`model` after `channel`, which is finer here than it would be for a real network."""
    settings = {"training": BRIEF, "multiple": 1, "min_width": 2, **settings}
    return channel.run(model, ChannelSettings(**settings), around or context(epochs=0))


@torch.no_grad()
def counted_macs(model: nn.Module, example: Tensor = EXAMPLE) -> float:
    """Multiply-adds of one image, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        model.eval()(example)
    return counter.get_total_flops() / 2 / len(example)


def built(backbone: Any) -> nn.Module:
    """A backbone of pqd_vision for small grey images."""
    torch.manual_seed(0)
    model: nn.Module = backbone.build(Width(width=0.1 if backbone is wrn_28_10 else 0.5), INFO)
    return model.eval()


# --- how much work stays


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_at_most_the_asked_share_of_the_work_stays_and_hardly_less(share: float, scope: str) -> None:
    model = network(width=16)
    before = counted_macs(model)
    after = counted_macs(narrowed(model, macs=share, scope=scope))
    assert share - 0.06 < after / before <= share


@pytest.mark.parametrize("backbone", [resnet20, vgg16_bn, wrn_28_10], ids=lambda module: module.__name__)
def test_the_bundled_networks_are_narrowed_to_multiples_of_eight(backbone: Any) -> None:
    model = built(backbone)
    before = counted_macs(model)
    narrowed(model, macs=0.6, multiple=8, min_width=8)
    assert counted_macs(model) <= 0.6 * before
    widths = {part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths)
    assert model(EXAMPLE).shape == (2, 10)


def test_the_price_of_a_choice_is_what_the_narrowed_network_costs() -> None:
    model = network(width=16)
    graph = dependencies(model, EXAMPLE)
    groups, _ = prunable_groups(graph, model, LAYERS)
    work = measure_work(model, EXAMPLE)
    assert macs(work, [], []) == counted_macs(model)
    gone = [3 + i for i in range(len(groups))]
    priced = macs(work, groups, gone)
    remove(model, graph, {group.root: range(count) for group, count in zip(groups, gone, strict=True)}, EXAMPLE)
    assert counted_macs(model) == pytest.approx(priced)


def test_no_layer_falls_below_its_least_width() -> None:
    model = narrowed(network(width=16), macs=0.3, min_width=7)
    assert all(len(part.weight) >= 7 for part in model.modules() if isinstance(part, nn.Conv2d))


def test_work_that_cannot_be_reached_is_refused_before_training() -> None:
    around = context()
    with pytest.raises(PqdError) as error:
        narrowed(network(), around, macs=0.1, min_width=8, rounds=2)
    assert error.value.problems[0].where == "channel.macs"
    assert "min_width" in error.value.problems[0].hint
    assert around.history == []
    assert "narrow" not in around.facts


def test_a_refused_share_is_told_with_the_least_one_that_can_be_asked() -> None:
    with pytest.raises(PqdError) as error:
        narrowed(network(width=16), macs=0.1, multiple=8, min_width=8)
    share = float(error.value.problems[0].hint.split("macs: ")[1].split(",")[0])
    narrowed(network(width=16), macs=share, multiple=8, min_width=8)


def test_channels_whose_work_the_last_step_made_good_are_given_back() -> None:
    groups = [Group(root, 16, {(root, "out"): 1}, None) for root in ("light", "heavy")]
    work = {"light": Work(1, 16, 1, False), "heavy": Work(100, 16, 1, False)}
    worth = [torch.full((16,), 0.5), torch.ones(16)]
    removed = choose_channels(groups, worth, work, 900, ChannelSettings(multiple=8, min_width=8))
    assert removed == {"heavy": list(range(8))}


def test_windows_of_attention_are_refused_at_once() -> None:
    model = SwinTransformer([4, 4], 24, [2, 2], [3, 6], [7, 7], num_classes=10)
    with pytest.raises(PqdError, match=r"one channel becomes more than 20,000.*magnitude or n-m"):
        dependencies(model, torch.zeros(2, 3, 64, 64))


# --- which channels go


def test_channels_that_say_nothing_go_first_and_nothing_else_changes() -> None:
    model = network(width=16)
    with torch.no_grad():
        for layer, norm in ((model.conv1, model.bn1), (model.stem[0], model.stem[1])):
            for tensor in (layer.weight, norm.weight, norm.bias):
                tensor[3:9] *= 1e-6
        expected = model(images(16))
        model.conv1.bias[3:9] = 0
    narrowed(model, macs=0.85)
    assert len(model.conv1.weight) + len(model.stem[0].weight) < 32 + 16
    with torch.no_grad():
        assert torch.allclose(model(images(16)), expected, atol=1e-3)


@pytest.mark.parametrize(("importance", "power"), [("l1", 1), ("l2", 2)])
def test_the_worth_of_a_channel_is_the_norm_of_its_weights_in_all_layers(importance: str, power: int) -> None:
    model = network()
    graph = dependencies(model, EXAMPLE)
    groups, _ = prunable_groups(graph, model, ["conv1"])
    [scores] = worth(groups, importance)
    own, reader = model.conv1.weight.detach().abs() ** power, model.conv2.weight.detach().abs() ** power
    total = own.flatten(1).sum(1) + reader.transpose(0, 1).flatten(1).sum(1) + model.bn1.weight.detach().abs() ** power
    assert torch.allclose(scores, total / total.mean(), rtol=1e-4)


def test_taylor_asks_the_loss_and_not_the_weights() -> None:
    model, settings = network(width=16), ChannelSettings(importance="taylor", images=64)
    with torch.no_grad():
        model.conv1.weight[:8] *= 5
        model.conv2.weight[:, :8] = 1e-6  # large weights to which nothing listens
    channel.find_gradients(model, settings, context())
    graph = dependencies(model, EXAMPLE)
    groups, _ = prunable_groups(graph, model, ["conv1"])
    [by_loss], [by_weights] = worth(groups, "taylor"), worth(groups, "l1")
    assert by_loss[:8].max() < 0.01 < by_loss[8:].median()
    assert by_weights[:8].min() > by_weights[8:].max()


def test_taylor_narrows_and_leaves_no_gradients_behind() -> None:
    model = network(width=16)
    before, statistics = counted_macs(model), model.bn1.running_mean.clone()
    narrowed(model, macs=0.9, include=["conv2", "shortcut"], importance="taylor", images=32)
    assert counted_macs(model) <= 0.9 * before
    assert torch.equal(model.bn1.running_mean, statistics)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_excluded_layers_keep_their_channels_with_all_that_hang_on_them() -> None:
    around = context(epochs=0)
    model = narrowed(network(width=16), around, macs=0.8, exclude=["shortcut"])
    assert [len(layer.weight) for layer in (model.conv2, model.shortcut)] == [32, 32]
    assert len(model.conv1.weight) < 32
    log: Any = around.log
    left_whole = log.calls[-1].kwargs["left_whole"]
    assert "include and exclude" in left_whole["shortcut"]
    assert "answers" in left_whole["head.1"]


def test_a_glob_that_fits_nothing_is_named_with_the_layers_there_are() -> None:
    with pytest.raises(PqdError, match=r"channel.include.*'layer9'"):
        narrowed(network(), include=["layer9"])


def test_the_same_network_loses_the_same_channels() -> None:
    one, other = (narrowed(network(width=16), macs=0.5).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_blocks_are_taken_in_the_order_of_their_mean_worth() -> None:
    model = network(width=8)
    graph = dependencies(model, EXAMPLE)
    groups, _ = prunable_groups(graph, model, LAYERS)
    scores = [torch.linspace(1, 2, group.channels) for group in groups]
    roots = [group.root for group in groups]
    scores[roots.index("conv1")] /= 100
    work = measure_work(model, EXAMPLE)
    settings = ChannelSettings(multiple=4, min_width=4)
    removals = choose_channels(groups, scores, work, 0.9 * macs(work, [], []), settings)
    assert removals == {"conv1": list(range(4))} or removals == {"conv1": list(range(8))}


# --- what it says of itself


def test_a_saved_network_is_rebuilt_from_the_evidence() -> None:
    around = context(epochs=1)
    model = narrowed(network(width=16), around, macs=0.5)
    rebuilt = channel.restructure(network(seed=9, width=16), ChannelSettings(), context(facts=around.facts))
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(rebuilt.eval()(images()), model(images()))
    parts = dict(model.named_modules())
    for name, part in rebuilt.named_modules():
        for number in ("in_channels", "out_channels", "in_features", "out_features", "num_features", "groups"):
            assert getattr(part, number, None) == getattr(parts[name], number, None), (name, number)


def test_restructuring_for_the_first_time_changes_nothing() -> None:
    model, expected = network(), network().state_dict()
    channel.restructure(model, ChannelSettings(multiple=1, min_width=2), context())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_depthwise_convolutions_follow_and_are_rebuilt() -> None:
    class Separable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expand, self.depthwise = nn.Conv2d(1, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.norm, self.project = nn.BatchNorm2d(16, affine=False), nn.Conv2d(16, 12, 1)
            self.prelu, self.head = nn.PReLU(12), nn.Linear(12 * 4, 10)

        def forward(self, images: Tensor) -> Tensor:
            x = self.prelu(self.project(F.relu(self.norm(self.depthwise(self.expand(images))))))
            logits: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(x, 2), 1))
            return logits

    torch.manual_seed(0)
    fresh, around = Separable().eval(), context(epochs=1)
    model = narrowed(copy.deepcopy(fresh), around, macs=0.5)
    assert model.depthwise.groups == model.expand.out_channels < 16
    rebuilt = resize(fresh, around.facts["narrow"])
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(rebuilt.eval()(images()), model(images()))
    assert probe(model, around.facts["narrow"]) == []


def test_the_probe_sees_a_layer_of_another_width() -> None:
    around = context(epochs=0)
    narrowed(network(), around, macs=0.5)
    problems = probe(network(), around.facts["narrow"])
    assert problems
    assert "is (" in problems[0]
    assert probe(nn.Linear(2, 2), around.facts["narrow"]) == ["none of the narrowed layers is there"]


def test_a_second_narrowing_starts_from_the_first() -> None:
    around = context(epochs=0)
    model = narrowed(network(width=16), around, macs=0.7)
    between = counted_macs(model)
    narrowed(model, around, macs=0.7, include=["conv1"], min_width=4)
    assert counted_macs(model) <= 0.7 * between
    rebuilt = resize(network(seed=9, width=16), around.facts["narrow"])
    rebuilt.load_state_dict(model.state_dict(), strict=True)


def test_rounds_share_the_epochs_and_reach_the_target_together() -> None:
    around = context(epochs=3)
    before = counted_macs(network(width=16))
    model = narrowed(network(width=16), around, macs=0.5, rounds=2)
    assert channel.share_epochs(3, 2) == [1, 2]
    assert len(around.history) == 3
    log: Any = around.log
    shares = [call.kwargs["macs_left"] for call in log.calls if "macs_left" in call.kwargs]
    assert len(shares) == 2
    assert all(0.6 < share <= 0.72 for share in shares)
    assert counted_macs(model) <= 0.5 * before


# --- with other stages


def test_masks_are_narrowed_with_their_weights() -> None:
    model, around = network(width=16), context(epochs=0)
    magnitude.run(model, MagnitudeSettings(sparsity=0.6, training=BRIEF), around)
    with torch.no_grad():
        kept = model.conv1.weight[around.facts["sparse"]["conv1.weight"]]
        assert (kept != 0).all()
        model.conv1.weight[0, 0, 0, 0] = 0  # a kept weight that happens to be zero stays a kept weight
        around.facts["sparse"]["conv1.weight"][0] = True
    before = {name: (model.get_parameter(name).detach().clone(), m) for name, m in around.facts["sparse"].items()}
    narrowed(model, around, macs=0.9, include=["conv1"], importance="l1")
    masks = around.facts["sparse"]
    assert probe_sparse(model, masks) == []
    weight, mask = before["conv1.weight"]
    kept_rows = [i for i, row in enumerate(weight) if any(torch.equal(row, left) for left in model.conv1.weight)]
    assert len(kept_rows) == len(model.conv1.weight) < 32
    assert torch.equal(masks["conv1.weight"], mask[kept_rows])
    assert torch.equal(masks["conv2.weight"], before["conv2.weight"][1][:, kept_rows])
    assert torch.equal(masks["stem.0.weight"], before["stem.0.weight"][1])


def test_masks_hold_through_the_training_of_a_narrowed_network() -> None:
    model, first = network(width=16), context(epochs=0)
    magnitude.run(model, MagnitudeSettings(sparsity=0.6, training=BRIEF), first)
    around = context(epochs=1, facts=first.facts)
    narrowed(model, around, macs=0.5)
    assert probe_sparse(model, around.facts["sparse"]) == []
    assert all(mask.shape == model.get_parameter(name).shape for name, mask in around.facts["sparse"].items())


# --- networks that cannot be narrowed


def test_what_mixes_its_channels_is_left_whole_and_the_rest_is_narrowed() -> None:
    class Normed(SmallResidual):
        def __init__(self) -> None:
            super().__init__(width=16)
            self.bn1 = nn.GroupNorm(4, 32)  # type: ignore[assignment]

    around = context(epochs=0)
    model = narrowed(Normed(), around, macs=0.8)
    log: Any = around.log
    assert log.calls[-1].kwargs["left_whole"]["conv1"] == "bn1 is a GroupNorm, which is not narrowed here"
    assert len(model.conv1.weight) == 32
    assert len(model.stem[0].weight) < 16


@pytest.mark.parametrize("trick", ["fixed view", "numbered"])
def test_a_network_that_depends_on_its_widths_in_hidden_ways_is_refused_before_training(trick: str) -> None:
    class Odd(SmallResidual):
        def forward(self, images: Tensor) -> Tensor:
            x = F.relu(self.bn1(self.conv1(self.stem(images))))
            if trick == "fixed view":
                x = x.view(-1, 2, 8, 8, 8).flatten(1, 2)
            else:
                x = x * torch.arange(x.shape[1]).view(1, -1, 1, 1)
            x = self.conv2(x)
            logits: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
            return logits

    torch.manual_seed(0)
    around = context()
    with pytest.raises(PqdError) as error:
        narrowed(Odd(), around, macs=0.7)
    assert error.value.problems[0].where.startswith("channel")
    assert error.value.problems[0].hint
    assert around.history == []


@pytest.mark.parametrize(
    "settings", [{"macs": 0}, {"macs": 1}, {"importance": "l3"}, {"rounds": 0}, {"min_width": 0}, {"latency_ms": 1}]
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChannelSettings(**settings)


def test_the_record_says_what_the_stage_needs_and_gives() -> None:
    [record] = pqd_stages()
    assert (record.name, record.kind, record.needs) == ("channel", "prune", ("trainable", "plain-modules"))
    assert record.given == ("narrow",)
    assert record.implementation() is channel
