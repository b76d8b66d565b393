from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, light_spec
from light import NudgeSettings, stage_record
from processes import write_distribution
from pydantic import Field

from pqd_core import RecipeDef, Settings, StageDef, register_stage
from pqd_core.host.errors import PluginError, SpecError
from pqd_core.host.plugins import Host, load_plugins, new_host
from pqd_core.host.read_spec import parse_spec
from pqd_core.host.registry import Registry, UnknownName
from pqd_core.records import FactDef

GOOD = """
from pqd_core import hookimpl, StageDef, RecipeDef

@hookimpl
def pqd_stages():
    return [StageDef(name="{name}", kind="toy", summary="A stage.", load="nowhere.at.all")]

@hookimpl
def pqd_step_started(step):
    seen.append(step)

seen = []
"""
HOOK = "from pqd_core import *\n\n@hookimpl\ndef {hook}({arguments}):\n    {body}\n"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[EntryPoint]]:
    """Writes modules and an installed distribution that registers them; gives its entry points."""

    def write(
        modules: dict[str, str], plugins: dict[str, str] | None = None, dist: str = "strange"
    ) -> list[EntryPoint]:
        folder = tmp_path / dist
        write_distribution(folder, dist, plugins or {name: name for name in modules})
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(folder)
        return [entry for entry in entry_points(group="pqd") if entry.dist and entry.dist.name == dist]

    return write


def hook(name: str, body: str, arguments: str = "") -> str:
    return HOOK.format(hook=name, body=body, arguments=arguments)


# --- loading


def test_a_plugin_of_a_stranger_is_loaded_and_known_with_its_distribution(shelf: Any) -> None:
    host = load_plugins(new_host(), shelf({"p_good": GOOD.format(name="shrink")}))
    (plugin,) = host.plugins
    assert (plugin.name, plugin.distribution, plugin.version, plugin.error) == ("p_good", "strange", "1.0", None)
    assert plugin.hooks == ("pqd_stages", "pqd_step_started")
    assert plugin.brings == {"stage": ("shrink",)}
    assert host.registry("stage").find("shrink") is not None


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def f(:\n  pass", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (hook("pqd_stagse", "return []"), "unknown hook 'pqd_stagse'"),
        (hook("pqd_stages", "return []", "stuff"), "stuff"),
        (hook("pqd_stages", "return [7]"), "pqd_stages brought 7, expected a StageDef"),
        (hook("pqd_stages", "return 7"), "TypeError: 'int' object is not iterable"),
        (hook("pqd_stages", "raise RuntimeError('no licence')"), "no licence"),
        (hook("pqd_stages", "yield 1 / 0"), "ZeroDivisionError"),
        (hook("pqd_stages", "return [RecipeDef(name='a', summary='b', spec={})]"), "expected a StageDef"),
        (hook("pqd_stages", "return [StageDef(name='A b', kind='k', summary='s', load='l')]"), "'name'"),
        (hook("pqd_stages", "return [StageDef(name='a', kind='k', summary='', load='l')]"), "summary"),
        (hook("pqd_stages", "return [StageDef(name='a', kind='k', summary='s', load='l', settings=dict)]"), "Settings"),
        (hook("pqd_stages", "return 2 * [StageDef(name='a', kind='k', summary='s', load='l')]"), "one name twice"),
        (
            "class S(__import__('pqd_core').Settings):\n    epochs: int = 1\n"
            + hook("pqd_stages", "return [StageDef(name='a', kind='k', summary='s', load='l', settings=S)]"),
            "a setting named epochs, which the spec uses itself",
        ),
        (
            hook(
                "pqd_stages",
                "return [StageDef(name='a', kind='k', summary='s', load='l', gives=(FactDef('sparse', 's', print),))]",
            ),
            "the fact 'sparse' is known already",
        ),
    ],
)
def test_a_plugin_that_is_wrong_is_unloaded_whole_and_the_others_go_on(
    shelf: Any, capsys: pytest.CaptureFixture[str], source: str, cause: str
) -> None:
    host = load_plugins(new_host(), shelf({"p_bad": source, "p_good": GOOD.format(name="shrink")}))
    assert [(plugin.name, plugin.error is None) for plugin in host.plugins] == [("p_bad", False), ("p_good", True)]
    assert cause in str(host.plugins[0].error)
    assert not host.manager.has_plugin("p_bad")
    assert [owned.full_name for owned in host.registry("stage")] == ["p_good:shrink"]
    assert capsys.readouterr().err.splitlines() == [
        "pqd: plugin p_bad failed to load and was left out; see pqd plugins -v"
    ]


def test_a_plugin_that_fails_late_leaves_none_of_its_records_behind(shelf: Any) -> None:
    source = GOOD.format(name="early") + hook("pqd_datasets", "return ['no record']")
    host = load_plugins(new_host(), shelf({"p_half": source}))
    assert list(host.registry("stage")) == []
    assert host.tell("pqd_step_started", step=None) == []


def test_strict_loading_raises_what_is_wrong(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = shelf({"p_bad": "import nothing_of_that_name"})
    monkeypatch.setenv("PQD_STRICT", "1")
    with pytest.raises(PluginError, match=r"plugin p_bad .* failed to load: ModuleNotFoundError") as error:
        load_plugins(new_host(), entries)
    assert error.value.exit_code == 2


def test_a_name_that_is_missing_makes_a_failed_plugin_a_suspect(shelf: Any) -> None:
    host = load_plugins(new_host(), shelf({"p_bad": "import nothing_of_that_name"}))
    with pytest.raises(SpecError, match=r"unknown stage 'magnitude'.* failed to load: p_bad; see pqd plugins -v"):
        parse_spec(light_spec(stages=["magnitude"]), host)


def test_plugins_are_loaded_in_the_order_of_distribution_and_name(shelf: Any) -> None:
    entries = shelf({"p_z": GOOD.format(name="z"), "p_a": GOOD.format(name="a")}, dist="beta")
    entries += shelf({"p_m": GOOD.format(name="m")}, dist="alpha")
    assert [p.name for p in load_plugins(new_host(), reversed(entries)).plugins] == ["p_m", "p_a", "p_z"]


def test_two_plugins_of_one_name_leave_the_first_one_whole(shelf: Any) -> None:
    entries = shelf({"p_one": GOOD.format(name="one")}, {"same": "p_one"}, dist="alpha")
    entries += shelf({"p_two": GOOD.format(name="two")}, {"same": "p_two"}, dist="beta")
    host = load_plugins(new_host(), entries)
    assert [(p.distribution, p.error is None) for p in host.plugins] == [("alpha", True), ("beta", False)]
    assert "a plugin named same is loaded already" in str(host.plugins[1].error)
    assert list(host.registry("stage").names()) == ["one"]
    host.tell("pqd_step_started", step="a step")
    assert sys.modules["p_one"].seen == ["a step"], "the first plugin still watches"


@pytest.mark.parametrize(
    ("variable", "value", "loaded"),
    [
        ("PQD_PLUGINS", "p_a", ["p_a"]),
        ("PQD_PLUGINS", " p_b , p_a ", ["p_a", "p_b"]),
        ("PQD_PLUGINS", "", ["p_a", "p_b"]),
        ("PQD_DISABLE_PLUGINS", "p_a", ["p_b"]),
        ("PQD_DISABLE_PLUGINS", "p_a,p_b", []),
    ],
)
def test_the_environment_selects_plugins(
    shelf: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, loaded: list[str]
) -> None:
    entries = shelf({"p_a": GOOD.format(name="a"), "p_b": GOOD.format(name="b")})
    monkeypatch.setenv(variable, value)
    assert [plugin.name for plugin in load_plugins(new_host(), entries).plugins] == loaded


def test_a_selected_plugin_that_is_not_there_is_missed_aloud(
    shelf: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = shelf({"p_a": GOOD.format(name="a")})
    monkeypatch.setenv("PQD_PLUGINS", "p_b")
    load_plugins(new_host(), entries)
    assert "PQD_PLUGINS names p_b, which is not installed; did you mean p_a?" in capsys.readouterr().err


# --- names


@pytest.fixture
def registry() -> Registry[Any]:
    registry: Registry[Any] = Registry("stage", [])
    for plugin, name in (("a", "cut"), ("b", "cut"), ("a", "bake")):
        registry.add(plugin, stage_record(name, summary=f"{plugin}'s"))
    return registry


def test_a_name_that_two_plugins_bring_is_never_guessed(registry: Registry[Any]) -> None:
    with pytest.raises(UnknownName, match="2 plugins bring a stage of this name; write a:cut or b:cut"):
        registry.find("cut")
    assert registry.find("b:cut").record.summary == "b's"
    assert registry.find("bake") == registry.find("a:bake")
    assert list(registry.names()) == ["bake", "a:cut", "b:cut"]


@pytest.mark.parametrize("name", ["", ":", "a:", "c:cut", "a:cut:", "a:b:cut", "cut ", "CUT", "x" * 10_000])
def test_a_name_that_means_nothing_is_unknown(registry: Registry[Any], name: str) -> None:
    with pytest.raises(UnknownName, match="unknown stage"):
        registry.find(name)


def test_a_record_of_the_same_plugin_and_name_replaces_the_older_one(registry: Registry[Any]) -> None:
    registry.add("a", stage_record("bake", summary="newer"))
    assert registry.find("bake").record.summary == "newer"
    assert len(list(registry)) == 3


def test_an_empty_registry_says_that_there_is_nothing() -> None:
    with pytest.raises(UnknownName, match="unknown recipe 'x'; there are none"):
        Registry("recipe", []).find("x")


# --- a stage without a package


@pytest.fixture
def default(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr("pqd_core.host.plugins._default", host)
    return host


def test_a_decorated_class_is_a_stage_of_this_process(default: Host) -> None:
    for default_by in (0.1, 0.2):

        class MoreSettings(NudgeSettings):
            by: float = Field(default_by, description="How far.")

        @register_stage(name="mine", kind="toy", summary="Mine.", settings=MoreSettings)
        class Mine:
            def restructure(self, model: Any, settings: Any, context: Any) -> Any: ...

    spec = parse_spec(light_spec(stages=["mine", "local:mine"]))
    assert [stage.settings.by for stage in spec.stages] == [0.2, 0.2]
    assert isinstance(spec.stages[0].record.implementation(), Mine), "methods find their self"


def test_a_decorated_stage_is_checked_as_a_plugins_is(default: Host) -> None:
    class Clash(Settings):
        use: str = Field("x", description="Clashes.")

    with pytest.raises(ValueError, match="a setting named use"):
        register_stage(name="mine", kind="toy", summary="Mine.", settings=Clash)(object())
    gives = (FactDef("sparse", "another", print),)
    with pytest.raises(ValueError, match="the fact 'sparse' is known already"):
        register_stage(name="mine", kind="toy", summary="Mine.", gives=gives)(object())
    assert "mine" not in set(default.registry("stage").names())


def test_a_record_is_inert_until_it_is_used(host: Host) -> None:
    host.add("given", StageDef(name="far", kind="toy", summary="Far.", load="nowhere.at.all"))
    spec = parse_spec(light_spec(stages=["far"]), host)
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        spec.stages[0].record.implementation()


def test_a_recipe_is_a_spec_or_parts_and_not_both() -> None:
    both: dict[str, Any] = {"spec": {}, "parts": ("a",)}
    for wrong in ({}, both):
        with pytest.raises(ValueError, match="needs either a spec or parts"):
            RecipeDef(name="r", summary="s", **wrong)


# --- what is told on request


def test_every_hook_that_is_called_can_be_traced(
    shelf: Any, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_plugins(host, shelf({"p_watch": GOOD.format(name="watch") + hook("pqd_check_plan", "return []", "plan")}))
    monkeypatch.setenv("PQD_TRACE", "1")
    load_plugins(host, shelf({"p_late": GOOD.format(name="late")}, dist="later"))
    Bench(host, tmp_path).run()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pqd: pqd_")]
    assert lines == [
        "pqd: pqd_stages: p_late",
        "pqd: pqd_check_plan: p_watch",
        *("pqd: pqd_step_started (baseline): " + name for name in ("p_watch", "p_late")),
        "pqd: pqd_run_step (baseline): core",
        *("pqd: pqd_step_started (nudge): " + name for name in ("p_watch", "p_late")),
        "pqd: pqd_run_step (nudge): core",
    ]
