"""Plugins: found by entry point, loaded one by one, unloaded whole when anything about one is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from attrs import define, evolve, field, frozen

from pqd_core import hookspecs
from pqd_core.facts import FACTS
from pqd_core.host.errors import PluginError, did_you_mean
from pqd_core.host.log import get_logger
from pqd_core.host.registry import Registry
from pqd_core.host.trace import trace
from pqd_core.records import (
    BackboneDef,
    CheckupDef,
    CommandDef,
    DatasetDef,
    FactDef,
    MeasurerDef,
    RecipeDef,
    RendererDef,
    RuntimeDef,
    StageDef,
    TaskDef,
)

BRINGS: Mapping[str, tuple[str, type]] = {
    "pqd_backbones": ("backbone", BackboneDef),
    "pqd_datasets": ("dataset", DatasetDef),
    "pqd_stages": ("stage", StageDef),
    "pqd_runtimes": ("runtime", RuntimeDef),
    "pqd_measurers": ("measurer", MeasurerDef),
    "pqd_tasks": ("task", TaskDef),
    "pqd_renderers": ("renderer", RendererDef),
    "pqd_recipes": ("recipe", RecipeDef),
    "pqd_commands": ("command", CommandDef),
    "pqd_checkups": ("checkup", CheckupDef),
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
    fact_owners: dict[str, str] = field(factory=lambda: dict.fromkeys(FACTS, "the core"))
    registries: dict[str, Registry[Any]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.registries = {noun: Registry(noun, self.suspects) for noun, _ in BRINGS.values()}

    def registry(self, noun: str) -> Registry[Any]:
        """All records of one kind, named as in `BRINGS`: `backbone`, `dataset`, `stage`, ..."""
        return self.registries[noun]

    def check(self, plugin: str, record: Any) -> None:
        """`record` clashes with nothing that the spec or other plugins use.

        Raises:
            ValueError: it does.
        """
        if not isinstance(record, StageDef):
            return
        if clash := RESERVED & set(record.settings.model_fields):
            raise ValueError(f"stage {record.name} has a setting named {', '.join(clash)}, which the spec uses itself")
        for fact in record.gives:
            if isinstance(fact, FactDef) and (owner := self.fact_owners.get(fact.name, plugin)) != plugin:
                raise ValueError(f"the fact '{fact.name}' is known already, from {owner}; give it by its name")

    def add(self, plugin: str, record: Any) -> None:
        """Make one record available, as a plugin's would be."""
        self.check(plugin, record)
        noun = next(noun for noun, kind in BRINGS.values() if isinstance(record, kind))
        self.registries[noun].add(plugin, record)
        if isinstance(record, StageDef):
            own = {fact.name: fact for fact in record.gives if isinstance(fact, FactDef)}
            self.facts.update(own)
            self.fact_owners.update(dict.fromkeys(own, plugin))

    def each(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Each plugin that answers a hook, and the call that asks it."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            yield implementation.plugin_name, partial(_call, hook, implementation, arguments)

    def tell(self, hook: str, **arguments: Any) -> list[str]:
        """Call an observers' hook; what one raises is logged and returned, and steers nothing."""
        failed = []
        for owner, call in self.each(hook, **arguments):
            try:
                call()
            except (Exception, SystemExit) as error:
                failed.append(f"plugin {owner} failed in {hook}: {error!r}")
                get_logger("pqd.plugins").exception("observer failed", plugin=owner, hook=hook)
        return failed


def _call(hook: str, implementation: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    trace(hook, [implementation], arguments)
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def new_host() -> Host:
    """A host without plugins; the core itself answers `pqd_run_step`, last."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.add_hookcall_monitoring(trace, lambda *_: None)
    from pqd_core.host import last_answer

    manager.register(last_answer, name="core")
    return Host(manager)


def load_plugins(host: Host, found: Iterable[EntryPoint]) -> Host:
    """Load each entry point into `host`, in the order of distribution and name."""
    entries = sorted(found, key=_order)
    wanted, unwanted = _names("PQD_PLUGINS"), _names("PQD_DISABLE_PLUGINS")
    installed = [entry.name for entry in entries]
    for missing in sorted(wanted - set(installed)):
        hint = did_you_mean(missing, installed)
        get_logger("pqd.plugins").warning(f"PQD_PLUGINS names {missing}, which is not installed; {hint}")
    for entry in entries:
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
    except (Exception, SystemExit) as error:
        if os.environ.get("PQD_STRICT") == "1":
            raise PluginError(f"plugin {entry.name} ({entry.value}) failed to load: {error!r}") from error
        host.suspects.append(entry.name)
        get_logger("pqd.plugins").warning(f"plugin {entry.name} failed to load and was left out; see pqd plugins -v")
        return Plugin(*where, error=f"{type(error).__name__}: {error}")


def _register(host: Host, module: Any, plugin: Plugin) -> Plugin:
    """Register a module and make its records available, or leave nothing of it behind."""
    if host.manager.has_plugin(plugin.name):
        raise ImportError(f"a plugin named {plugin.name} is loaded already")
    try:
        host.manager.register(module, name=plugin.name)
        host.manager.check_pending()
        callers = host.manager.get_hookcallers(module) or []
        records = {
            BRINGS[caller.name][0]: _brought(host, caller, plugin) for caller in callers if caller.name in BRINGS
        }
    except BaseException:
        if host.manager.has_plugin(plugin.name):
            host.manager.unregister(name=plugin.name)
        raise
    for record in (record for brought in records.values() for record in brought):
        host.add(plugin.name, record)
    return evolve(
        plugin,
        hooks=tuple(sorted(caller.name for caller in callers)),
        brings={noun: tuple(r.name for r in brought) for noun, brought in records.items()},
    )


def _brought(host: Host, caller: pluggy.HookCaller, plugin: Plugin) -> list[Any]:
    """The records that a plugin answers one hook with, all of them checked."""
    own = next(i for i in caller.get_hookimpls() if i.plugin_name == plugin.name)
    records, kind = list(_call(caller.name, own, {}) or ()), BRINGS[caller.name][1]
    for record in records:
        if not isinstance(record, kind):
            raise TypeError(f"{caller.name} brought {record!r}, expected a {kind.__name__}")
        host.check(plugin.name, record)
    if len({record.name for record in records}) < len(records):
        raise ValueError(f"{caller.name} brought one name twice")
    return records


def installed(noun: str) -> Registry[Any]:
    """What the installed plugins bring of one kind: iterate over it, or `find(name)` a record and its plugin."""
    return default_host().registry(noun)


_default: Host | None = None


def default_host() -> Host:
    """The host of this process, with all installed plugins, loaded on first use."""
    global _default
    if _default is None:
        _default = load_plugins(new_host(), entry_points(group=hookspecs.PROJECT))
    return _default
