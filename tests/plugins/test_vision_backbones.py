"""The four architectures: the papers' networks at width 1, and networks of the same kind at any other."""

import pytest
import torch
from torch import nn

import pqd_vision
from pqd_core import DataInfo
from pqd_vision.blocks import scaled
from pqd_vision.settings import Width

BACKBONES = {record.name: record.implementation() for record in pqd_vision.pqd_backbones()}
NAMES = ["resnet18-cifar", "wrn-28-10", "vgg16-bn", "resnet20"]
PARAMETERS = {"resnet18-cifar": 11_173_962, "wrn-28-10": 36_479_194, "vgg16-bn": 14_724_042, "resnet20": 272_474}


def info_of(channels: int = 3, height: int = 32, width: int = 32, classes: int = 10) -> DataInfo:
    return DataInfo("made", (channels, height, width), classes, (0.5,) * channels, (0.25,) * channels)


def build(name: str, width: float = 1.0, info: DataInfo | None = None, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return BACKBONES[name].build(Width(width=width), info or info_of())


@pytest.mark.parametrize("name", NAMES)
def test_width_one_is_the_papers_network(name):
    with torch.device("meta"):
        network = BACKBONES[name].build(Width(), info_of())
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 8, 32)])
def test_any_small_image_gives_logits_in_training_and_after(name, shape):
    network = build(name, 0.1, info_of(*shape, classes=7))
    images = torch.randn(2, *shape)
    assert network.train()(images).shape == (2, 7)
    assert network.eval()(images).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_width_multiplies_every_layer(name):
    with torch.device("meta"):
        whole, half = (dict(BACKBONES[name].build(Width(width=w), info_of()).named_modules()) for w in (1.0, 0.5))
    assert whole.keys() == half.keys()
    convolutions = [key for key, part in whole.items() if isinstance(part, nn.Conv2d)]
    assert all(half[key].out_channels == whole[key].out_channels // 2 for key in convolutions)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(64, 1, 64), (64, 0.25, 16), (16, 0.1, 8), (160, 0.1, 16), (64, 0.3, 16)]
)
def test_scaled_channels_are_multiples_of_eight(channels, width, expected):
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("name", NAMES)
def test_each_relu_is_used_once(name):
    network, used = build(name, 0.1).eval(), []
    for part_name, part in network.named_modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(lambda *_, part_name=part_name: used.append(part_name))
    network(torch.zeros(1, 3, 32, 32))
    relus = [part_name for part_name, part in network.named_modules() if isinstance(part, nn.ReLU)]
    assert sorted(used) == sorted(relus)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_the_initial_weights(name):
    first, again, other = (build(name, 0.1, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_start_with_kaimings_variance(name):
    for part in build(name, 0.5).modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 10_000:
            fan_out = part.out_channels * part.kernel_size[0] * part.kernel_size[1]
            assert part.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_learns(name):
    network = build(name, 0.1, info_of(3, 16, 16)).train()
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 4
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_can_be_traced_with_a_free_batch_size(name):
    network = build(name, 0.1).train()
    batch = ({0: torch.export.Dim.DYNAMIC},)
    graph = torch.export.export(network, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=batch).module()
    assert graph(torch.zeros(5, 3, 32, 32)).shape == (5, 10)


def test_vgg_pools_an_image_only_down_to_one_pixel():
    def pools(size: int) -> int:
        with torch.device("meta"):
            network = BACKBONES["vgg16-bn"].build(Width(), info_of(3, size, size))
        return sum(isinstance(part, nn.MaxPool2d) for part in network)

    assert [pools(size) for size in (8, 16, 32, 64)] == [3, 4, 5, 5]


def test_a_wide_blocks_shortcut_starts_behind_the_activation_only_where_the_shape_changes():
    group = build("wrn-28-10", 0.1).eval().group1
    first, second = group[0], group[1]
    assert first.shortcut is not None
    assert second.shortcut is None
    with torch.no_grad():
        for block in (first, second):
            block.conv2.weight.zero_()
        images = torch.randn(1, first.conv1.in_channels, 8, 8)
        assert torch.equal(first(images), first.shortcut(first.relu1(first.bn1(images))))
        assert torch.equal(second(first(images)), first(images))
