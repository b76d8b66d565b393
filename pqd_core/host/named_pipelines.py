"""Pipelines by the names of their stages, as a spec writes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _several_lists(given: Any) -> Any:
    """One list of names is not several pipelines of one stage each."""
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        raise ValueError(f"is a list of pipelines, each a list of names; write [[{', '.join(given)}]]")
    return given


NamedPipelines = Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_several_lists)]
