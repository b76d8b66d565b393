"""A process that makes steps and deployments for another one: told what by JSON lines, answering with JSON lines.

It is told the spec, the store and the log once, then a content key at a time. What it makes it puts into the store;
its answers say that it did, or why not. It ends at once when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from attrs import define, field

from pqd_core.artifact import Store
from pqd_core.context import RunContext
from pqd_core.host.entries import entries_or_all
from pqd_core.host.errors import PqdError, Problem
from pqd_core.host.log import logging_to
from pqd_core.host.pieces import deploy_step, make_step
from pqd_core.host.plugins import default_host
from pqd_core.host.progress import DEPLOY_WORK
from pqd_core.host.read_spec import parse_spec
from pqd_core.plan import Step, build_plan

ORPHANED = 3


@define
class Answers:
    """The way back; as a `Progress` it passes on what was trained, and nothing else."""

    lines: TextIO

    def say(self, kind: str, **message: Any) -> None:
        """One message is on its way."""
        self.lines.write(json.dumps({"kind": kind, **message}, default=str) + "\n")
        self.lines.flush()

    def start(self, total: int) -> None:
        """Say nothing."""

    def describe(self, doing: str) -> None:
        """Say nothing."""

    def advance(self, work: int) -> None:
        """Pass it on."""
        self.say("advance", work=work)

    def tell(self, line: str) -> None:
        """Say nothing."""

    def warn(self, event: Mapping[str, Any]) -> None:
        """Pass on a warning of the log, for the terminal."""
        if event["level"] == "warning":
            self.say("warning", event=dict(event))


@define
class Work:
    """One run, as far as this process sees it."""

    told: Mapping[str, Any]
    answers: Answers
    _context: RunContext | None = field(default=None)

    def do(self, what: str, key: str) -> None:
        """A step is made, or deployed everywhere, and the answer says so."""
        try:
            step = self._step(key)
            if what == "step":
                made = make_step(step, self.context, lambda: self.answers.say("started"))
                self.answers.say("done", reused=made.reused, seconds=made.seconds)
            else:
                runtimes = entries_or_all(self.context.spec.runtimes, self.context.host, "runtime")
                refused = deploy_step(step, runtimes, self.context).refused
                self.answers.advance(DEPLOY_WORK * len(runtimes))
                self.answers.say("done", refused=refused)
        except PqdError as error:
            problems = [[p.where, p.what, p.hint] for p in error.problems]
            self.answers.say("failed", problems=problems, error=type(error).__name__)

    @property
    def context(self) -> RunContext:
        """The plan made again from the spec; everything heavy is opened on first use."""
        if self._context is None:
            import torch

            host = default_host()
            plan = build_plan(parse_spec(self.told["spec"], host), host)
            self._context = RunContext(plan, Store(Path(self.told["store"])), host, self.answers)
            torch.set_num_threads(self._context.threads)
        return self._context

    def _step(self, key: str) -> Step:
        found = next((step for step in self.context.plan.steps if step.key == key), None)
        if found is None:
            what = "another process makes another plan of this spec"
            raise PqdError(Problem("", what, "the plugins or their versions changed meanwhile; run again"))
        return found


def serve() -> None:
    """Do what is asked until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what is half done is cleaned up
    answers = Answers(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # whatever a library prints goes to the log of this process
    os.register_at_fork(after_in_child=partial(_in_child, answers.lines.fileno()))
    asked: SimpleQueue[dict[str, Any]] = SimpleQueue()
    work = Work(json.loads(sys.stdin.readline()), answers)
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    with logging_to(Path(work.told["log"]), answers.warn):
        while True:
            request = asked.get()
            work.do(request["do"], request["key"])


def _in_child(way_back: int) -> None:
    """A process that a library forks ends when it is told to, and does not hold the way back open."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(2, way_back, inheritable=False)


def _listen(asked: SimpleQueue[dict[str, Any]]) -> None:
    """Each request is passed on; the end of them means that the process that asked has ended, however that came."""
    for line in sys.stdin:
        asked.put(json.loads(line))
    _leave_nothing()


def _leave_nothing() -> None:
    """This process ends at once, and all that libraries started in it."""
    if os.getpgrp() == os.getpid():  # as the process that asks has started it
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)


def main() -> None:
    """Serve quietly: being told to stop is no error."""
    try:
        serve()
    except (KeyboardInterrupt, BrokenPipeError):
        _leave_nothing()
