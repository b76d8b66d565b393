"""What `pqd doctor` is told about the runtimes: which there are, and whether they load."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version

from pqd_core import Finding
from pqd_runtimes import RUNTIMES


def runtimes() -> Iterator[Finding]:
    """Each runtime's library imported, with the versions that its files depend on."""
    for record in RUNTIMES:
        library = record.requires[0]
        try:
            import_module(library)
            versions = ", ".join(f"{name} {version(name)}" for name in record.requires)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            yield Finding(f"{record.name} does not load: {reason}", ok=False, advice=f"pip install {library}")
        else:
            yield Finding(f"{record.name}: {versions}")
