"""Walls: who may import what, what stays light, and what has to be described."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from processes import write_distribution
from pydantic import BaseModel

import pqd_core
from pqd_core import hookspecs
from pqd_core.host.plugins import BRINGS, Host, new_host, register_plugin
from pqd_core.report import Report
from pqd_core.spec import Baseline, Budget, Spec, Training
from pqd_core.testing import toys

ROOT = Path(__file__).parent.parent
CORE = ROOT / "pqd_core"
PLUGINS = sorted(folder for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").is_file())
PLUGIN_NAMES = {folder.name for folder in PLUGINS}
HEAVY = ["torch", "torchvision", "torchao", "accelerate", "onnx", "onnxruntime", "openvino", "sklearn", "scipy"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PATH_FILES = ["spec", "plan", "run", "stage", "artifact", "deploy", "measure", "report"]
"""The path of docs/architecture.md, in its order."""
LINES = 235
"""No file is longer; most have about a hundred."""


def imports(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, names) of each import of a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are written out"
            yield node.module or "", [alias.name for alias in node.names]


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.fixture(scope="module")
def bundled() -> Host:
    """A host with the toys and every bundled plugin."""
    host = new_host()
    for module in (toys, *(import_module(name) for name in sorted(PLUGIN_NAMES))):
        name = module.__name__.rpartition(".")[2].removeprefix("pqd_")
        host.plugins.append(register_plugin(host, module, name))
    return host


# --- who imports what


@pytest.mark.parametrize("file", sources(CORE), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_core_knows_no_plugin_by_name(file: Path) -> None:
    for module, _ in imports(file):
        assert module.partition(".")[0] not in PLUGIN_NAMES | {"plugins"}
    paths = re.findall(r"\b(pqd_\w+)[.:]\w", file.read_text(encoding="utf-8"))
    assert not set(paths) & PLUGIN_NAMES


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_imports_public_names_of_the_core_and_no_other_plugin(plugin: Path) -> None:
    for file in sources(plugin):
        for module, names in imports(file):
            package = module.partition(".")[0]
            assert package not in PLUGIN_NAMES - {plugin.name}, f"{file} imports another plugin"
            assert package != "plugins", f"{file}: the shelf is no package"
            if package == "pqd_core":
                assert module == "pqd_core", f"{file} imports {module}, which is not public"
                assert set(names) <= set(pqd_core.__all__), f"{file} imports {names}"


def test_what_a_record_points_to_lies_in_its_own_plugin(bundled: Host) -> None:
    for noun, _ in BRINGS.values():
        for owned in bundled.registry(noun):
            load = getattr(owned.record, "load", None)
            if isinstance(load, str) and owned.plugin != "toys":
                module = load.partition(":")[0]
                assert module.partition(".")[0] == f"pqd_{owned.plugin}", owned.full_name
                assert find_spec(module) is not None, f"{owned.full_name}: there is no {module}"


def calls(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(function, keywords) of each call in a file, as they are written."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {str(word.arg): ast.unparse(word.value) for word in node.keywords}


def test_only_what_faces_a_terminal_prints() -> None:
    printing = {file.name for file in sources(CORE) for function, _ in calls(file) if function == "print"}
    assert printing <= {"terminal.py", "log.py", "plugins.py"}


def test_nothing_is_ever_pickled() -> None:
    for file in [*sources(CORE), *(file for plugin in PLUGINS for file in sources(plugin))]:
        for module, _ in imports(file):
            assert module.partition(".")[0] not in {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        for function, keywords in calls(file):
            assert function != "torch.load" or keywords.get("weights_only") == "True", file
            assert function != "np.load" or keywords.get("allow_pickle") != "True", file
            assert function != "yaml.load" or file.name == "read_spec.py", f"{file}: read_spec has the safe loader"


# --- what stays light

PROBE = """
import sys
{code}
heavy = [name for name in {heavy!r} if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "code",
    [
        "import pqd_core",
        "from pqd_core import Spec, Settings, StageDef, Problem, hookimpl, Training, RecipeDef",
        "import pqd_core.spec, pqd_core.plan, pqd_core.records, pqd_core.hookspecs, pqd_core.facts",
        "import pqd_core.host.cli, pqd_core.host.listing, pqd_core.host.read_spec, pqd_core.artifact",
        *(f"import {folder.name}" for folder in PLUGINS),
    ],
)
def test_what_only_describes_imports_nothing_heavy(code: str) -> None:
    command = [sys.executable, "-c", PROBE.format(code=code, heavy=HEAVY)]
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


COMMAND = """
import sys, atexit
from pqd_core.host.cli import main
atexit.register(lambda: [print("HEAVY", name) for name in {heavy!r} if name in sys.modules])
main()
"""
SPEC = """
backbone: resnet20
dataset: digits
stages: [{use: magnitude, sparsity: 0.5}, int8-qat, logit-kd]
"""


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plan", "spec.yaml"], ["recipes"], ["schema"]])
def test_commands_that_only_look_import_nothing_heavy(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    plugins = {name.removeprefix("pqd_"): name for name in sorted(PLUGIN_NAMES)}
    write_distribution(tmp_path, "bundled", plugins)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}:{ROOT / 'plugins'}", "PQD_STORE": str(tmp_path / "store")}
    env["PQD_PLUGINS"] = ",".join(plugins)
    began = time.perf_counter()
    command = [sys.executable, "-c", COMMAND.format(heavy=HEAVY), *arguments]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    with capsys.disabled():
        sys.stdout.write(f"\npqd {' '.join(arguments)}: {seconds:.2f} s ")
    assert done.returncode == 0, done.stderr
    assert "HEAVY" not in done.stdout


# --- what has to be described


HOOKS = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("pqd_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_what_it_is_for(hook: str) -> None:
    assert len(inspect.getdoc(getattr(hookspecs, hook)) or "") > 10
    assert getattr(getattr(hookspecs, hook), "pqd_spec", None) is not None


def test_every_hook_that_brings_is_collected() -> None:
    plural = {hook for hook in HOOKS if hook.endswith("s") and "_step" not in hook}
    assert plural == set(BRINGS)


def described(model: type[BaseModel], where: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not field.description or not field.description.endswith((".", ")")):
            yield f"{where}.{name}"


def test_every_setting_of_every_component_is_described(bundled: Host) -> None:
    missing = [
        place
        for noun, _ in BRINGS.values()
        for owned in bundled.registry(noun)
        if hasattr(owned.record, "settings")
        for place in described(owned.record.settings, owned.full_name)
    ]
    for model in (Spec, Baseline, Budget, Training, Report):
        missing += described(model, model.__name__)
    assert missing == []


def test_every_component_says_what_it_is_in_one_line(bundled: Host) -> None:
    for noun, _ in BRINGS.values():
        for owned in bundled.registry(noun):
            assert 5 < len(owned.record.summary) <= 140, owned.full_name
            assert "\n" not in owned.record.summary, owned.full_name


def test_what_observers_are_told_has_public_types() -> None:
    hooks = [
        hook for name, hook in vars(hookspecs).items() if name.startswith("pqd_step_") or name == "pqd_run_finished"
    ]
    told = {str(kind) for hook in hooks for name, kind in hook.__annotations__.items() if name != "return"}
    assert told - {"BaseException", "bool"} <= set(pqd_core.__all__)
    assert {"Step", "Artifact", "Report"} <= told


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in pqd_core.__all__:
        thing: Any = getattr(pqd_core, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
    assert set(pqd_core.__all__) == set(pqd_core._MODULE_OF)
    assert set(dir(pqd_core)) == {*pqd_core.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pqd_core.nothing  # noqa: B018


def test_a_function_and_its_module_may_share_a_name() -> None:
    for name in ("run", "fit"):
        module = import_module(f"pqd_core.{name}")
        assert getattr(pqd_core, name) is getattr(module, name)


# --- the shape of the project


def test_the_top_of_the_core_tells_the_path() -> None:
    for name in PATH_FILES:
        assert (CORE / f"{name}.py").is_file()
        assert (ROOT / "tests" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("folder", [CORE, *PLUGINS], ids=lambda folder: folder.name)
def test_no_file_is_long(folder: Path) -> None:
    long = {
        str(file.relative_to(ROOT)): n for file in sources(folder) if (n := len(file.read_text().splitlines())) > LINES
    }
    assert long == {}


def test_every_bundled_plugin_is_registered_and_packed_and_nothing_else() -> None:
    registered = PROJECT["project"]["entry-points"]["pqd"]
    assert set(registered.values()) == PLUGIN_NAMES
    assert registered == {name.removeprefix("pqd_"): name for name in PLUGIN_NAMES}
    packed = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packed) == sorted(["pqd_core", *(f"plugins/{name}" for name in PLUGIN_NAMES)])
    assert not (ROOT / "plugins" / "__init__.py").exists()
    assert all((folder / "py.typed").is_file() for folder in [CORE, *PLUGINS])


def test_the_version_is_written_once_more_only() -> None:
    assert PROJECT["project"]["version"] == pqd_core.__version__
