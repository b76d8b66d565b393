"""Plugins: found by entry point, loaded one by one, unloaded whole when anything about one is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from attrs import define, field, frozen

from pqd_core import hookspecs
from pqd_core.facts import FACTS
from pqd_core.host.errors import PluginError
from pqd_core.host.log import get_logger
from pqd_core.host.registry import Registry
from pqd_core.records import (
    BackboneDef,
    DatasetDef,
    FactDef,
    MeasurerDef,
    RecipeDef,
    RuntimeDef,
    StageDef,
)

BRINGS: Mapping[str, tuple[str, type]] = {
    "pqd_backbones": ("backbone", BackboneDef),
    "pqd_datasets": ("dataset", DatasetDef),
    "pqd_stages": ("stage", StageDef),
    "pqd_runtimes": ("runtime", RuntimeDef),
    "pqd_measurers": ("measurer", MeasurerDef),
    "pqd_recipes": ("recipe", RecipeDef),
}
RESERVED = {"use", "epochs"}


@frozen
class Plugin:
    """A plugin that was found, and how loading it went."""

    name: str
    module: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    brings: Mapping[str, tuple[str, ...]] = field(factory=dict)
    error: str | None = None


@define
class Host:
    """The loaded plugins and everything they brought."""

    manager: pluggy.PluginManager
    plugins: list[Plugin] = field(factory=list)
    suspects: list[str] = field(factory=list)
    facts: dict[str, FactDef] = field(factory=lambda: dict(FACTS))
    registries: dict[str, Registry[Any]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.registries = {noun: Registry(noun, self.suspects) for noun, _ in BRINGS.values()}

    def registry(self, noun: str) -> Registry[Any]:
        """All records of one kind: `backbone`, `dataset`, `stage`, `runtime`, `measurer` or `recipe`."""
        return self.registries[noun]

    def add(self, plugin: str, record: Any) -> None:
        """Make one record available, as a plugin's would be."""
        noun = next(noun for noun, kind in BRINGS.values() if isinstance(record, kind))
        self.registries[noun].add(plugin, record)
        if isinstance(record, StageDef):
            self.facts.update({fact.name: fact for fact in record.gives if isinstance(fact, FactDef)})

    def call_each(self, hook: str, **arguments: Any) -> Iterable[tuple[str, Any]]:
        """Each plugin's answer to a hook that brings, with its owner; see `tell` for hooks that tell."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            yield implementation.plugin_name, _call(implementation, arguments)

    def tell(self, hook: str, **arguments: Any) -> list[str]:
        """Call an observers' hook; what one raises is logged and returned, and steers nothing."""
        failed = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                _call(implementation, arguments)
            except Exception as error:
                failed.append(f"plugin {implementation.plugin_name} failed in {hook}: {error!r}")
                get_logger("pqd.plugins").exception("observer failed", plugin=implementation.plugin_name, hook=hook)
        return failed


def _call(implementation: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def new_host() -> Host:
    """A host without plugins; the core itself answers `pqd_run_step`, last."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if os.environ.get("PQD_TRACE") == "1":
        manager.trace.root.setwriter(lambda line: print(line, end="", file=sys.stderr))  # noqa: T201
        manager.enable_tracing()
    from pqd_core.host import last_answer

    manager.register(last_answer, name="core")
    return Host(manager)


def load_plugins(host: Host, found: Iterable[EntryPoint]) -> Host:
    """Load each entry point into `host`, in the order of distribution and name."""
    wanted, unwanted = _names("PQD_PLUGINS"), _names("PQD_DISABLE_PLUGINS")
    for entry in sorted(found, key=_order):
        if (not wanted or entry.name in wanted) and entry.name not in unwanted:
            host.plugins.append(_load(host, entry))
    return host


def _names(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}


def _order(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name if entry.dist else "", entry.name)


def register_plugin(host: Host, module: Any, name: str) -> Plugin:
    """Load a module that is at hand as a plugin; it raises what is wrong with it."""
    return _register(host, module, Plugin(name, getattr(module, "__name__", name), "", ""))


def _load(host: Host, entry: EntryPoint) -> Plugin:
    """Load one plugin, or unload it whole and remember why."""
    where = (entry.name, entry.value, *((entry.dist.name, entry.dist.version) if entry.dist else ("", "")))
    try:
        return _register(host, entry.load(), Plugin(*where))
    except Exception as error:
        if host.manager.has_plugin(entry.name):
            host.manager.unregister(name=entry.name)
        if os.environ.get("PQD_STRICT") == "1":
            raise PluginError(f"plugin {entry.name} ({entry.value}) failed to load: {error!r}") from error
        host.suspects.append(entry.name)
        get_logger("pqd.plugins").warning(f"plugin {entry.name} failed to load and was left out; see pqd plugins -v")
        return Plugin(*where, error=f"{type(error).__name__}: {error}")


def _register(host: Host, module: Any, plugin: Plugin) -> Plugin:
    """Register a module, ask it for its records, check them, and only then make them available."""
    name = plugin.name
    if host.manager.register(module, name=name) is None:
        raise ImportError(f"a plugin named {name} is loaded already")
    host.manager.check_pending()
    callers = host.manager.get_hookcallers(module) or []
    records: dict[str, list[Any]] = {}
    for caller in callers:
        if caller.name in BRINGS:
            noun, kind = BRINGS[caller.name]
            own = next(i for i in caller.get_hookimpls() if i.plugin_name == name)
            records[noun] = _checked(list(_call(own, {}) or ()), kind, caller.name)
    for record in (record for brought in records.values() for record in brought):
        host.add(name, record)
    return Plugin(
        name,
        plugin.module,
        plugin.distribution,
        plugin.version,
        hooks=tuple(sorted(caller.name for caller in callers)),
        brings={noun: tuple(r.name for r in brought) for noun, brought in records.items()},
    )


def _checked(records: list[Any], kind: type, hook: str) -> list[Any]:
    for record in records:
        if not isinstance(record, kind):
            raise TypeError(f"{hook} brought {record!r}, expected a {kind.__name__}")
        if isinstance(record, StageDef) and (clash := RESERVED & set(record.settings.model_fields)):
            raise TypeError(f"stage {record.name} has a setting named {', '.join(clash)}, which the spec uses itself")
    if len({record.name for record in records}) < len(records):
        raise ValueError(f"{hook} brought one name twice")
    return records


_default: Host | None = None


def default_host() -> Host:
    """The host of this process, with all installed plugins, loaded on first use."""
    global _default
    if _default is None:
        _default = load_plugins(new_host(), entry_points(group=hookspecs.PROJECT))
    return _default
