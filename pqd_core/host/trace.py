"""`PQD_TRACE=1`: a line on stderr for each hook that is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pluggy import HookImpl


def trace(hook: str, implementations: Sequence[HookImpl], arguments: Mapping[str, Any]) -> None:
    """If a person asked for it, it is told which plugins are asked, the first one first, and about which step."""
    if os.environ.get("PQD_TRACE") == "1":
        asked = " -> ".join(implementation.plugin_name for implementation in reversed(implementations))
        step = getattr(arguments.get("step"), "label", None)
        sys.stderr.write(f"pqd: {hook}{f' ({step})' if step else ''}: {asked}\n")
