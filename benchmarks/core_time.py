"""How much of a run is pqd's own: everything but what plugins and the training loop do.

    python benchmarks/core_time.py [RECIPE] [--set key=value ...]

Runs the recipe in a fresh store and takes the time of every call into a plugin (build, open, restructure, run, freeze,
export, load, measure) and of the baseline's training from the whole. Imports are done before, and reported apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from evidence import write_result

from pqd_core.host.plugins import Host, default_host
from pqd_core.host.read_spec import read_spec

CALLS = ("build", "open_data", "restructure", "run", "freeze", "export", "open_session", "weights", "measure")


class Clock:
    """Seconds by what was called, the outermost call counted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.running = False

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, with its time added under `name`."""

        @wraps(call)
        def clocked(*args: Any, **kwargs: Any) -> Any:
            if self.running:
                return call(*args, **kwargs)
            self.running, began = True, time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.running = False
                self.seconds[name] += time.perf_counter() - began

        return clocked


def watch(host: Host, clock: Clock) -> None:
    """Every call into a plugin's implementation is timed."""
    for noun, registry in host.registries.items():
        for owned in registry:
            load = getattr(owned.record, "load", None)
            part: Any = import_module(load) if isinstance(load, str) and ":" not in load else None
            for name in CALLS if isinstance(part, ModuleType) else ():
                if hasattr(part, name):
                    setattr(part, name, clock.timed(f"{noun}.{name}", getattr(part, name)))


def main() -> None:
    """Run and write the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="quickstart")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    began, clock = time.perf_counter(), Clock()
    from pqd_core import deploy, stage
    from pqd_core.run import run

    host = default_host()
    watch(host, clock)
    stage._train_baseline = clock.timed("baseline", stage._train_baseline)
    deploy.compare = clock.timed("deploy.parity", deploy.compare)
    spec = read_spec(options.recipe, options.overrides, host)
    imports = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        report = run(spec, Path(folder) / "run", store=Path(folder) / "store", host=host)
        total = time.perf_counter() - began
    own = total - sum(clock.seconds.values())
    numbers = {
        "recipe": options.recipe,
        "steps": len(report.steps),
        "deployments": len(report.rows),
        "imports_seconds": imports,
        "run_seconds": total,
        "core_seconds": own,
        "core_share": own / total,
        "plugin_seconds": dict(sorted(clock.seconds.items())),
    }
    print(f"core {own:.2f} s of {total:.1f} s ({own / total:.2%}), imports {imports:.1f} s")
    write_result("core_time", numbers, threads=report.environment["threads"], seeds=list(spec.seeds))


if __name__ == "__main__":
    main()
