"""`pqd new-plugin` writes distributions that work as they are, and touches nothing that is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from processes import write_distribution

from pqd_author.new_plugin import Kind, names_of, write_plugin
from pqd_core import PqdError

KINDS = get_args(Kind)


def written(kind: str, folder: Path) -> Path:
    return write_plugin(names_of(f"made-{kind}", kind), kind, folder)


def test_a_generated_plugin_of_each_kind_passes_its_own_tests(tmp_path: Path) -> None:
    """Installed as far as Python can tell; `tox -e external` installs them for real."""
    places = [written(kind, tmp_path) for kind in KINDS]
    site = tmp_path / "site"
    for place in places:
        project = tomllib.loads((place / "pyproject.toml").read_text())["project"]
        write_distribution(site, project["name"], project["entry-points"]["pqd"])
    path = [str(site), *(str(place / "src") for place in places), *sys.path]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *map(str, places)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_plugin_is_complete_and_has_no_word_left_open(kind: str, tmp_path: Path) -> None:
    place = written(kind, tmp_path)
    module = f"pqd_made_{kind}"
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    source = {f"src/{module}/{name}" for name in ("__init__.py", f"{kind}.py", "py.typed")}
    assert found == {"pyproject.toml", "README.md", "tests/test_conformance.py", f"tests/test_{kind}.py", *source}
    for path in found:
        text = (place / path).read_text()
        assert "$" not in text, path
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize(
    "name", ["", "Low-rank", "low_rank", "low--rank", "-low", "low-", "1st", "../up", "a b", "é", "x" * 41, "low\n"]
)
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(PqdError, match="cannot be a name") as error:
        names_of(name, "stage")
    assert error.value.exit_code == 2


@pytest.mark.parametrize(("name", "kind"), [("int8", "stage"), ("pqd-int8", "stage"), ("magnitude", "stage")])
def test_a_name_that_is_taken_is_refused(name: str, kind: str) -> None:
    with pytest.raises(PqdError, match=r"is installed already; take another name"):
        names_of(name, kind)


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    place = written("stage", tmp_path)
    (place / "README.md").write_text("mine")
    with pytest.raises(PqdError, match="is there already; nothing was changed"):
        written("stage", tmp_path)
    assert (place / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PqdError, match="choose another place with --folder"):
        written("stage", tmp_path / "file")
