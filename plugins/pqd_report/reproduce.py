"""How to get the same numbers again: the spec as a file, the versions, the commands."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

from pqd_core import Report

PINNED = re.compile(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.+!-]*", re.ASCII)
"""A distribution and its version: no option of pip, no address."""


def spec_yaml(report: Report) -> str:
    """The request with all defaults, as `pqd run` reads it."""
    given = {key: value for key, value in report.spec.items() if value is not None}
    text: str = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=100)
    return text


def commands(report: Report) -> list[str]:
    """What to type once the spec is saved as `spec.yaml`."""
    versions = report.environment.get("versions", {})
    pinned = [f"{name}=={version}" for name, version in versions.items() if name != "pqd"]
    wanted = " ".join(shlex.quote(one) for one in pinned if PINNED.fullmatch(one))
    return [f"python3 -m pip install {wanted}", "pqd plan spec.yaml", f"pqd run spec.yaml --out {_folder(report)}"]


def _folder(report: Report) -> str:
    """The title as a folder in a command of a shell, in which it is no option."""
    return shlex.quote(f"./{report.title}" if report.title.startswith("-") else report.title)


def environment(report: Report) -> list[tuple[str, str]]:
    """The machine and the versions, as pairs to read."""
    about: dict[str, Any] = report.environment
    cpu = about.get("cpu", {})
    pairs = {
        "written": f"{report.created}, after {report.seconds:.0f} s",
        "seeds": ", ".join(map(str, report.analysis.seeds)),
        "CPU": f"{cpu.get('model', 'unknown')}, {cpu.get('cores', '?')} cores, {cpu.get('architecture', '')}",
        "INT8 instructions": ", ".join(cpu.get("flags", ())) or "none that are known",
        "memory": f"{about['memory_gib']} GiB" if about.get("memory_gib") else "",
        "system": about.get("platform", ""),
        "threads": str(about.get("threads", "")),
        "trained on": about.get("accelerator") or about.get("device", ""),
        "Python": about.get("python", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items()),
        "plugins": ", ".join(f"{p['name']} ({p['distribution']} {p['version']})" for p in report.plugins),
    }
    return [(name, value) for name, value in pairs.items() if value]
