"""torchvision's models: by name, fitted to the data, safe to load, and refused with a reason."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from pqd_core import DataError, DataInfo
from pqd_vision import fingerprints
from pqd_vision.settings import TorchvisionModel
from pqd_vision.torchvision_model import build


def info_of(channels: int = 3, size: int = 64, classes: int = 7) -> DataInfo:
    return DataInfo("made", (channels, size, size), classes, (0.5,) * channels, (0.25,) * channels)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """torch's cache of downloads, empty, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def publish(cache: Path, name: str, **kwargs) -> nn.Module:
    """A network in the cache as if its weights had been downloaded."""
    torch.manual_seed(1)
    network = models.get_model(name, weights=None, **kwargs)
    file = models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    torch.save(network.state_dict(), cache / file)
    return network.eval()


@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "densenet121"]
)
def test_a_fresh_model_has_the_datas_classes(name):
    assert build(TorchvisionModel(name=name), info_of()).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.parametrize("kwargs", [{}, {"aux_logits": True}])
def test_auxiliary_heads_are_gone_in_training(name, kwargs):
    network = build(TorchvisionModel(name=name, kwargs=kwargs), info_of(size=96)).train()
    assert isinstance(network(torch.zeros(2, 3, 96, 96)), torch.Tensor)
    assert not [key for key in network.state_dict() if "aux" in key.lower()]


def test_an_unknown_name_is_told_with_its_neighbours():
    with pytest.raises(DataError, match=r"backbone\.torchvision\.name: .* resnet19; did you mean .*resnet18"):
        build(TorchvisionModel(name="resnet19"), info_of())


def test_unknown_weights_are_told_with_the_known_ones():
    with pytest.raises(DataError, match=r"no weights IMAGENET; known: .*IMAGENET1K_V1"):
        build(TorchvisionModel(name="resnet18", weights="IMAGENET"), info_of())


def test_weights_that_cannot_be_fetched_are_told_with_the_cache(cache):
    with pytest.raises(DataError, match=f"no network; check the network, or put the file into {cache}") as told:
        build(TorchvisionModel(name="resnet18", weights="DEFAULT"), info_of())
    assert isinstance(told.value.__cause__, OSError)


def test_weights_that_are_a_program_are_refused_and_not_run(cache, tmp_path):
    class Program:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was-run",))

    file = models.get_model_weights("resnet18").DEFAULT.url.rpartition("/")[2]
    (cache / file).write_bytes(pickle.dumps(Program()))
    with pytest.raises(DataError):
        build(TorchvisionModel(name="resnet18", weights="DEFAULT"), info_of())
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_published_weights_keep_their_features_under_a_new_head(cache, name):
    published = publish(cache, name)
    network = build(TorchvisionModel(name=name, weights="DEFAULT"), info_of()).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network.features(images), published.features(images))
    assert network(images).shape == (2, 7)


def test_published_weights_keep_their_head_where_the_classes_agree(cache):
    published = publish(cache, "squeezenet1_1")
    network = build(TorchvisionModel(name="squeezenet1_1", weights="DEFAULT"), info_of(classes=1000)).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(images), published(images))


def test_published_weights_with_auxiliary_heads_lose_them(cache):
    publish(cache, "googlenet", init_weights=False)
    network = build(TorchvisionModel(name="googlenet", weights="DEFAULT"), info_of())
    assert isinstance(network.train()(torch.zeros(2, 3, 64, 64)), torch.Tensor)


def test_a_grey_image_is_seen_as_if_it_were_repeated_three_times(cache):
    published = publish(cache, "squeezenet1_1")
    network = build(TorchvisionModel(name="squeezenet1_1", weights="DEFAULT"), info_of(channels=1, classes=1000)).eval()
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(network(images), published(images.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4)


def test_a_model_that_takes_its_input_apart_refuses_grey_images(cache):
    publish(cache, "googlenet", init_weights=False)
    with pytest.raises(DataError, match=r"googlenet cannot take images of 1 channels; use images of three channels"):
        build(TorchvisionModel(name="googlenet", weights="DEFAULT"), info_of(channels=1))


def test_images_that_are_too_small_are_told_with_what_to_do():
    with pytest.raises(DataError, match=r"cannot take images of \(3, 8, 8\).*set the dataset's size") as told:
        build(TorchvisionModel(name="alexnet"), info_of(size=8))
    assert told.value.__cause__ is not None


def test_the_builders_own_arguments_are_passed_on():
    settings = TorchvisionModel(name="vit_b_32", kwargs={"image_size": 64})
    with torch.device("meta"):
        assert models.get_model("vit_b_32", **settings.kwargs).seq_length == 5
    assert build(settings, info_of()).seq_length == 5


def test_an_argument_that_the_builder_does_not_know_is_told():
    with pytest.raises(DataError, match=r"backbone\.torchvision\.kwargs: resnet18 cannot be built: .*'depth'"):
        build(TorchvisionModel(name="resnet18", kwargs={"depth": 3}), info_of())


def test_checking_a_model_changes_neither_its_buffers_nor_torchs_randomness():
    torch.manual_seed(0)
    plain = models.get_model("mobilenet_v3_small", num_classes=7)
    after = torch.rand(1)
    torch.manual_seed(0)
    built = build(TorchvisionModel(name="mobilenet_v3_small"), info_of())
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in built.state_dict().items())


def test_a_default_that_torchvision_may_change_is_part_of_the_fingerprint():
    print_of = fingerprints.torchvision_model
    assert print_of(TorchvisionModel(name="resnet50", weights="DEFAULT"))
    assert not print_of(TorchvisionModel(name="resnet50", weights="IMAGENET1K_V1"))
    assert not print_of(TorchvisionModel(name="resnet50"))
