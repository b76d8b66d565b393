"""The log: JSON lines in the run folder, readable lines on a terminal; nobody else's logging is touched.

structlog is imported by the first logger, since commands that only look need none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    """A logger of a run's `log.jsonl`; `name` says which part speaks, and within a step the step is told along.

    `info` is for the file, `warning` also for the terminal. Stages are handed one as `context.log`.
    """
    import structlog

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
    """Events go to `file`, one JSON object a line, and to `terminal`, until the block ends.

    Raises:
        StoreError: the file cannot be opened.
    """
    with _opened(file) as lines:
        sinks: list[Sink] = [_json_lines(lines), *([terminal] if terminal else [])]
        _sinks.extend(sinks)
        try:
            yield
        finally:
            for sink in sinks:
                _sinks.remove(sink)


def _opened(file: Path) -> RawIOBase:
    from pqd_core.host.paths import store_error

    try:
        return file.open("ab", buffering=0)  # each line in one piece, whoever else writes
    except OSError as error:
        raise store_error(file, error) from error


def _json_lines(lines: RawIOBase) -> Sink:
    from structlog.processors import JSONRenderer

    render = JSONRenderer(default=str)

    def write(event: EventDict) -> None:
        try:
            lines.write(f"{render(None, '', event)!s}\n".encode())
        except OSError as error:
            _warnings_only({"level": "warning", "event": f"the log lost a line: {error.strerror}"})

    return write


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """`values` are part of every event of the block."""
    from structlog.contextvars import bound_contextvars

    with bound_contextvars(**values):
        yield
