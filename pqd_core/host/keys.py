"""Content keys: the hash of what was asked is the name of what was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

KEY_FORMAT = 1
"""Raise it when a key's meaning changes; every stored artifact is then made again."""


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_key(**request: Any) -> str:
    """sha-256 (64 hexadecimal digits) of a request."""
    return hashlib.sha256(canonical_json({"format": KEY_FORMAT, **request}).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
