"""The user's own network: found without being run, built for the data, and refused with its own error."""

import sys
from textwrap import dedent

import pytest
import torch

from pqd_core import DataError, DataInfo
from pqd_vision.fingerprints import python_network as fingerprint
from pqd_vision.python_network import build
from pqd_vision.settings import PythonNetwork

INFO = DataInfo("made", (1, 8, 8), 4, (0.5,), (0.25,))
NETWORK = """
    from torch import nn

    def build(num_classes, in_channels, hidden=3):
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, hidden), nn.Linear(hidden, num_classes))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder, and no trace in this process of what is imported from it."""
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def write(path, source: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(source))
    return path


def refused(source: str, folder) -> DataError:
    file = write(folder / "bad.py", source)
    with pytest.raises(DataError) as told:
        build(PythonNetwork(target=f"{file}:build"), INFO)
    assert f"{file}:build" in str(told.value)
    return told.value


def test_a_file_gives_a_network_for_the_data(folder):
    network = build(PythonNetwork(target=f"{write(folder / 'net.py', NETWORK)}:build"), INFO)
    assert network(torch.zeros(5, 1, 8, 8)).shape == (5, 4)


def test_a_module_of_the_current_folder_gives_a_network(folder):
    write(folder / "my_net_here.py", NETWORK)
    before = list(sys.path)
    assert build(PythonNetwork(target="my_net_here:build"), INFO)(torch.zeros(1, 1, 8, 8)).shape == (1, 4)
    assert sys.path == before


def test_a_module_in_a_package_gives_a_network(folder):
    write(folder / "my_nets_here" / "__init__.py", "")
    write(folder / "my_nets_here" / "small.py", NETWORK)
    assert build(PythonNetwork(target="my_nets_here.small:build"), INFO)


def test_a_module_in_a_bare_folder_gives_a_network(folder):
    write(folder / "bare_nets_here" / "small.py", NETWORK)
    assert build(PythonNetwork(target="bare_nets_here.small:build"), INFO)


def test_a_file_imports_its_neighbours(folder):
    write(folder / "nets" / "my_layers_here.py", NETWORK)
    write(folder / "nets" / "net.py", "from my_layers_here import build")
    assert build(PythonNetwork(target="nets/net.py:build"), INFO)


def test_a_class_is_a_callable_too(folder):
    source = """
        from torch import nn

        class Net(nn.Sequential):
            def __init__(self, num_classes):
                super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
    """
    assert build(PythonNetwork(target=f"{write(folder / 'net.py', source)}:Net"), INFO)


def test_the_users_arguments_win(folder):
    target = f"{write(folder / 'net.py', NETWORK)}:build"
    assert build(PythonNetwork(target=target, kwargs={"hidden": 5}), INFO)[1].out_features == 5
    with pytest.raises(DataError, match=r"shape \(2, 9\).*the data has 4 classes"):
        build(PythonNetwork(target=target, kwargs={"num_classes": 9}), INFO)


def test_a_callable_of_anothers_package_gets_only_what_it_names():
    network = build(PythonNetwork(target="torchvision.models:squeezenet1_1", kwargs={"num_classes": 7}), rgb(7))
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def rgb(classes: int) -> DataInfo:
    return DataInfo("made", (3, 32, 32), classes, (0.5,) * 3, (0.25,) * 3)


def test_a_callable_that_raises_is_told_with_its_error(folder):
    error = refused("def build():\n    raise ZeroDivisionError('by my own hand')", folder)
    assert "ZeroDivisionError: by my own hand" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_an_argument_that_is_not_known_is_told(folder):
    file = write(folder / "net.py", NETWORK)
    with pytest.raises(DataError, match=r"TypeError.*'depth'"):
        build(PythonNetwork(target=f"{file}:build", kwargs={"depth": 3}), INFO)


def test_a_missing_callable_is_told(folder):
    assert "has no build; correct the name behind the colon" in str(refused("def built(): ...", folder))


def test_what_is_no_callable_is_told(folder):
    assert "is a int, not a callable" in str(refused("build = 3", folder))


@pytest.mark.parametrize(
    "source",
    ["import no_such_module_anywhere", "def build(:", "raise SystemExit(3)", "import torch; torch.no_such_name"],
)
def test_a_module_that_cannot_be_imported_is_told_with_its_error(folder, source):
    error = refused(source, folder)
    assert "cannot be imported: " in str(error)
    assert error.__cause__ is not None


def test_what_is_no_network_is_told(folder):
    assert "returned a str, expected a torch.nn.Module" in str(refused("def build(): return 'a network'", folder))


def test_a_network_that_cannot_take_the_images_is_told_with_its_error(folder):
    error = refused("from torch import nn\ndef build(): return nn.Conv2d(3, 4, 3)", folder)
    assert "cannot take images of (1, 8, 8): RuntimeError" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


def test_auxiliary_outputs_in_training_are_told(folder):
    source = """
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

            def forward(self, x):
                return (self.layers(x), self.layers(x)) if self.training else self.layers(x)

        build = Net
    """
    assert "gave a tuple for two images in training" in str(refused(source, folder))


def test_predicted_classes_instead_of_logits_are_told(folder):
    source = """
        from torch import nn

        class Net(nn.Sequential):
            def forward(self, x):
                return (super().forward(x) > 0).long()

        def build():
            return Net(nn.Flatten(), nn.Linear(64, 4))
    """
    assert "return the logits, not the predicted classes" in str(refused(source, folder))


def test_the_first_look_at_a_network_leaves_its_running_means_alone(folder):
    source = """
        from torch import nn

        def build(num_classes):
            return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(num_classes))
    """
    network = build(PythonNetwork(target=f"{write(folder / 'net.py', source)}:build"), INFO)
    assert network[1].running_mean.abs().sum() == 0
    assert network[1].num_batches_tracked == 0


def test_a_fingerprint_follows_the_source(folder):
    file = write(folder / "my_net_here.py", NETWORK)
    by_file, by_module = PythonNetwork(target=f"{file}:build"), PythonNetwork(target="my_net_here:build")
    first = fingerprint(by_file)
    assert fingerprint(by_module) == first
    file.write_text(file.read_text() + "# changed\n")
    assert fingerprint(by_file) == fingerprint(by_module) != first


def test_a_fingerprint_runs_nothing(folder):
    write(folder / "my_loud_nets" / "__init__.py", "raise RuntimeError('was run')")
    write(folder / "my_loud_nets" / "net.py", "raise RuntimeError('was run')")
    assert len(fingerprint(PythonNetwork(target="my_loud_nets.net:build"))) == 64
    assert "my_loud_nets" not in sys.modules


@pytest.mark.parametrize(
    "target", ["no_such_module:f", "torch.no_such_part:f", "json.decoder.deeper:f", "no/such/file.py:f", "sys:exit"]
)
def test_a_target_without_a_source_has_no_fingerprint(target):
    with pytest.raises(DataError, match=r"backbone\.python\.target: there is no"):
        fingerprint(PythonNetwork(target=target))


def test_a_changed_file_is_imported_anew(folder):
    file = write(folder / "net.py", NETWORK)
    settings = PythonNetwork(target=f"{file}:build")
    assert build(settings, INFO)[1].out_features == 3
    write(file, NETWORK.replace("hidden=3", "hidden=6"))
    assert build(settings, INFO)[1].out_features == 6


def test_a_changed_module_that_python_would_not_import_anew_is_refused(folder):
    file = write(folder / "my_changing_net.py", NETWORK)
    settings = PythonNetwork(target="my_changing_net:build")
    build(settings, INFO)
    write(file, NETWORK.replace("hidden=3", "hidden=6"))
    with pytest.raises(DataError, match="has changed since this process imported it; restart Python"):
        build(settings, INFO)


def test_a_module_that_failed_can_be_corrected_and_imported(folder):
    file = write(folder / "my_corrected_net.py", "import no_such_module_anywhere")
    settings = PythonNetwork(target="my_corrected_net:build")
    with pytest.raises(DataError):
        build(settings, INFO)
    write(file, NETWORK)
    assert build(settings, INFO)
