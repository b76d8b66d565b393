"""The log: JSON lines in the run folder, readable lines on a terminal; nobody else's logging is touched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

Sink = Callable[[EventDict], None]
_sinks: list[Sink] = []


class _Deliver:
    """The last in structlog's chain: hands each event to every sink."""

    def msg(self, **event: Any) -> None:
        for sink in _sinks or [_warnings_only]:
            sink(dict(event))

    debug = info = warning = error = critical = exception = msg


def _warnings_only(event: EventDict) -> None:
    if event["level"] not in ("debug", "info"):
        print(f"pqd: {event['event']}", file=sys.stderr)  # noqa: T201


def get_logger(name: str) -> FilteringBoundLogger:
    """A structlog logger of this package; step and plugin are bound to each event while a step runs."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Deliver(),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
    ).bind(part=name)
    return logger


@contextmanager
def logging_to(file: Path, terminal: Sink | None = None) -> Iterator[None]:
    """Events go to `file`, one JSON object a line, and to `terminal`, until the block ends."""
    render = structlog.processors.JSONRenderer(default=str)
    with file.open("a", encoding="utf-8", buffering=1) as lines:
        sinks: list[Sink] = [lambda event: _write(lines, str(render(None, "", event)))]
        if terminal:
            sinks.append(terminal)
        _sinks.extend(sinks)
        try:
            yield
        finally:
            for sink in sinks:
                _sinks.remove(sink)


def _write(lines: Any, line: str) -> None:
    lines.write(line + "\n")


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """`values` are part of every event of the block."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
