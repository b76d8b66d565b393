"""Plugins and recipes as text and as JSON."""

from __future__ import annotations

import sys
from typing import Any

from pqd_core.host.plugins import Host


def plugins_json(host: Host) -> list[dict[str, Any]]:
    """Every plugin that was found."""
    return [
        {
            "name": plugin.name,
            "module": plugin.module,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "hooks": list(plugin.hooks),
            "brings": {noun: list(names) for noun, names in plugin.brings.items()},
            "error": plugin.error,
        }
        for plugin in host.plugins
    ]


def plugins_text(host: Host, verbose: bool) -> str:
    """A paragraph per plugin; with `verbose`, what it is, its hooks, a sentence on all it brings, why it failed."""
    lines: list[str] = []
    for plugin in host.plugins:
        lines.append(f"{plugin.name}  ({plugin.distribution} {plugin.version}, {plugin.module})")
        if verbose and (says := _says_of_itself(plugin.module)):
            lines.append(f"  {says}")
        if plugin.error:
            lines.append(f"  failed to load: {plugin.error}" if verbose else "  failed to load; see pqd plugins -v")
        for noun, names in plugin.brings.items():
            lines += _brought(host, plugin.name, noun, names) if verbose else [f"  {noun}: {', '.join(names)}"]
        if verbose and plugin.hooks:
            lines.append(f"  hooks: {', '.join(plugin.hooks)}")
    return "\n".join(lines) or "no plugin was found"


def _says_of_itself(module: str) -> str:
    """The first line of a plugin's docstring: all that there is on one that only watches."""
    doc = getattr(sys.modules.get(module), "__doc__", None)
    return next(iter((doc or "").strip().splitlines()), "")


def _brought(host: Host, plugin: str, noun: str, names: tuple[str, ...]) -> list[str]:
    registry = host.registry(noun)
    return [f"  {noun} {name}: {registry.find(f'{plugin}:{name}').record.summary}" for name in names]


def recipes_text(host: Host) -> str:
    """A line per recipe."""
    found = [owned.record for owned in host.registry("recipe")]
    width = max((len(recipe.name) for recipe in found), default=0)
    return "\n".join(f"{recipe.name:<{width}}  {recipe.summary}" for recipe in found) or "no recipe is installed"
