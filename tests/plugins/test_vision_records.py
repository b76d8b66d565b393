"""What pqd_vision brings: inert records, whose keys say what is meant and not where it lies."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

import pqd_vision
from pqd_vision.settings import NpzFile, Published, PythonNetwork

RECORDS = [*pqd_vision.pqd_backbones(), *pqd_vision.pqd_datasets()]
FOR_KEY = {"for": "key"}


def test_the_root_imports_no_torch_and_no_numpy():
    code = "import sys, pqd_vision; list(pqd_vision.pqd_backbones()); list(pqd_vision.pqd_datasets())\n"
    code += "assert not {'torch', 'torchvision', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_key_does_not_know_where_data_lies(tmp_path):
    file = tmp_path / "a.npz"
    file.touch()
    assert NpzFile(path=file).model_dump(mode="json", context=FOR_KEY)["path"] is None
    assert NpzFile(path=file).model_dump(mode="json")["path"] == str(file)
    here, there = (Published(root=root).model_dump(mode="json", context=FOR_KEY) for root in ("a", "b"))
    fetched = Published(root="c", download=True).model_dump(mode="json", context=FOR_KEY)
    assert here == there == fetched


def test_a_key_knows_a_file_and_its_callable_but_not_its_folder():
    network = PythonNetwork(target="/home/ada/net.py:build")
    assert network.model_dump(mode="json", context=FOR_KEY)["target"] == "net.py:build"
    assert network.model_dump(mode="json")["target"] == "/home/ada/net.py:build"


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Published(root="~/data").root == tmp_path / "data"


@pytest.mark.parametrize("target", ["net", "net:", ":build", "net:1st", "a:b:c"])
def test_a_target_has_a_module_and_a_callable(target):
    with pytest.raises(ValidationError):
        PythonNetwork(target=target)
