"""What a person sees while a run goes on: what is running, and how long is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

if TYPE_CHECKING:
    from rich.console import Console

DEPLOY_WORK = 4_000
"""A deployment's share of the bar, in training images; only the bar depends on it."""
MEASURE_WORK = 2_000


class Progress(Protocol):
    """How far the run is; work is counted in training images."""

    def start(self, total: int) -> None:
        """All the work there is."""
        ...

    def describe(self, doing: str) -> None:
        """What is running now."""
        ...

    def advance(self, work: int) -> None:
        """That much has been done."""
        ...

    def tell(self, line: str) -> None:
        """A line that stays."""
        ...


class Quiet:
    """Shows nothing."""

    def start(self, total: int) -> None:
        """Show nothing."""

    def describe(self, doing: str) -> None:
        """Show nothing."""

    def advance(self, work: int) -> None:
        """Show nothing."""

    def tell(self, line: str) -> None:
        """Show nothing."""


@define
class Bar:
    """A progress bar on a terminal; plain lines where there is none."""

    console: Console
    _bar: Any = None
    _task: Any = field(default=None)

    @contextmanager
    def shown(self) -> Iterator[Bar]:
        """The bar is there until the block ends."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, speed_estimate_period=60) as self._bar:
            self._task = self._bar.add_task("starting", total=None)
            yield self

    def start(self, total: int) -> None:
        """Set the bar's length."""
        self._bar.update(self._task, total=max(total, 1), completed=0)

    def describe(self, doing: str) -> None:
        """Show what is running; as a line of its own where there is no terminal."""
        self._bar.update(self._task, description=doing)
        if not self.console.is_terminal:
            self.console.print(doing, highlight=False)

    def advance(self, work: int) -> None:
        """Move the bar."""
        self._bar.advance(self._task, work)

    def tell(self, line: str) -> None:
        """Print above the bar."""
        self.console.print(line, highlight=False, markup=True)
