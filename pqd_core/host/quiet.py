"""What neighbouring libraries say of each other's internals, kept from whoever uses pqd: nobody there can act on it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_neighbours() -> Iterator[None]:
    """Within, torch and what it brings warn of nothing; afterwards all is as it was."""
    logger = logging.getLogger("torch.utils._pytree")
    severe = logging.Filter()  # one of this block's own, so that blocks can lie in one another
    severe.filter = _is_severe  # type: ignore[method-assign]
    logger.addFilter(severe)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(torch|torchao|onnxscript|accelerate)(\.|$)")
            yield
    finally:
        logger.removeFilter(severe)


def _is_severe(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING
