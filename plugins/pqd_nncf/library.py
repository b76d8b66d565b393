"""NNCF, called so that the process is left as it was.

Importing it changes the class of loggers that `logging` makes, and draws from `random`; using it compiles an extension
and draws progress bars. What it has to say goes into the run's log.
"""

from __future__ import annotations

import io
import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

from pqd_core import FakeQuantizer, PqdError, Problem, StageContext
from pqd_nncf import HERE, WITHOUT_IT, missing_tools, search_path

LONGEST_COMPILATION_S = 900


@contextmanager
def quiet_nncf(context: StageContext) -> Iterator[Any]:
    """The package, with its kernels loaded.

    Raises:
        PqdError: it is not installed, or its kernels cannot be compiled.
    """
    if problems := list(missing_tools()):
        raise PqdError(*problems)
    with ExitStack() as stack:
        stack.enter_context(_kept())
        stack.enter_context(redirect_stdout(io.StringIO()))  # where its progress bars go
        stack.enter_context(_told("torch.utils.cpp_extension", context, logging.CRITICAL))
        import nncf
        import nncf.torch
        from nncf.torch.quantization.layers import BaseQuantizer

        FakeQuantizer.register(BaseQuantizer)
        stack.enter_context(_told("nncf", context, logging.WARNING))
        _load_kernels(context)
        yield nncf


@contextmanager
def _kept() -> Iterator[None]:
    """Environment, `sys.path`, the state of `random` and the class of loggers are as they were afterwards."""
    environment, path = dict(os.environ), list(sys.path)
    drawn, kind = random.getstate(), logging.getLoggerClass()
    os.environ["PATH"] = search_path()
    os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", str(LONGEST_COMPILATION_S))
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.path[:] = path
        random.setstate(drawn)
        logging.setLoggerClass(kind)


class _Teller(logging.Handler):
    """Hands a library's messages to the run's log: as warnings from a level on, as details below it."""

    def __init__(self, context: StageContext, warns_from: int) -> None:
        super().__init__()
        self.log, self.warns_from = context.log, warns_from

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one message."""
        tell = self.log.warning if record.levelno >= self.warns_from else self.log.debug
        tell(f"NNCF: {record.getMessage()}")


@contextmanager
def _told(name: str, context: StageContext, warns_from: int) -> Iterator[None]:
    """What this logger is told goes into the run's log."""
    logger = logging.getLogger(name)
    handlers, propagates = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [_Teller(context, warns_from)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates


def _load_kernels(context: StageContext) -> None:
    """Compiled now if they never were on this machine, so that no training step waits for that, or fails by it."""
    from nncf.torch.quantization import extensions

    device = "CUDA" if context.device.type == "cuda" else "CPU"
    try:
        getattr(extensions, f"QuantizedFunctions{device}").get("Quantize_forward")
    except Exception as error:  # the compiler's, the loader's, and NNCF's own
        what = f"NNCF's {device} kernels cannot be compiled: {(str(error).splitlines() or [''])[0]}"
        raise PqdError(Problem(HERE, what, f"install the compiler that it names, {WITHOUT_IT}")) from error
