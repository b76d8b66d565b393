"""Plans, plugins and recipes as text and as JSON."""

from __future__ import annotations

from typing import Any

from pqd_core.artifact import Store
from pqd_core.host.plugins import Host
from pqd_core.host.words import counted
from pqd_core.plan import Plan, Step


def plan_json(plan: Plan, store: Store) -> dict[str, Any]:
    """The tree, one mapping per step, parents first."""
    return {
        "title": plan.spec.title,
        "epochs": plan.epochs,
        "epochs_to_run": sum(step.epochs for step in plan.steps if not store.has("steps", step.key)),
        "steps": [
            {
                "key": step.key,
                "parent": step.parent,
                "stage": step.name,
                "pipeline": list(step.pipeline),
                "epochs": step.epochs,
                "facts": sorted(step.facts),
                "done": store.has("steps", step.key),
            }
            for step in plan.steps
        ],
    }


def plan_text(plan: Plan, store: Store) -> str:
    """The tree with a line per step."""
    spec = plan.spec
    lines = [f"{spec.title}: {spec.backbone.name} on {spec.dataset.name}"]
    lines += [_plan_line(plan, step, store) for step in plan.steps]
    left = sum(step.epochs for step in plan.steps if not store.has("steps", step.key))
    lines.append(f"{counted(len(plan.steps), 'step')}, {counted(plan.epochs, 'epoch')}, {left} still to run")
    return "\n".join(lines)


def _plan_line(plan: Plan, step: Step, store: Store) -> str:
    indent = "  " + "   " * plan.depth(step) + ("└─ " if step.parent else "")
    done = "done" if store.has("steps", step.key) else ""
    facts = ", ".join(sorted(step.facts))
    epochs = counted(step.epochs, "epoch")
    return f"{indent + step.name:<34}{epochs:>11}  {step.key[:12]}  {done:<5} {facts}".rstrip()


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
    """A paragraph per plugin; with `verbose`, its hooks, a sentence on all it brings, and why it failed."""
    lines: list[str] = []
    for plugin in host.plugins:
        lines.append(f"{plugin.name}  ({plugin.distribution} {plugin.version}, {plugin.module})")
        if plugin.error:
            lines.append(f"  failed to load: {plugin.error}" if verbose else "  failed to load; see pqd plugins -v")
        for noun, names in plugin.brings.items():
            lines += _brought(host, plugin.name, noun, names) if verbose else [f"  {noun}: {', '.join(names)}"]
        if verbose and plugin.hooks:
            lines.append(f"  hooks: {', '.join(plugin.hooks)}")
    return "\n".join(lines) or "no plugin was found"


def _brought(host: Host, plugin: str, noun: str, names: tuple[str, ...]) -> list[str]:
    registry = host.registry(noun)
    return [f"  {noun} {name}: {registry.find(f'{plugin}:{name}').record.summary}" for name in names]


def recipes_text(host: Host) -> str:
    """A line per recipe."""
    found = [owned.record for owned in host.registry("recipe")]
    width = max((len(recipe.name) for recipe in found), default=0)
    return "\n".join(f"{recipe.name:<{width}}  {recipe.summary}" for recipe in found) or "no recipe is installed"
