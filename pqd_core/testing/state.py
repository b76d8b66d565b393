"""What a process consists of besides its own objects, to be found again as it was."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TORCHS_OWN = ("TORCHINDUCTOR_", "TRITON_")
"""Environment variables that torch sets itself when a process first exports anything."""


def process_state(*, seeded: bool = False) -> dict[str, Any]:
    """Everything that code shares with the rest of the process, by what a person calls it.

    `seeded` leaves out torch's random state, which the core seeds before each step itself.
    """
    import numpy as np
    import torch

    state = {
        "the environment": {name: value for name, value in os.environ.items() if not name.startswith(TORCHS_OWN)},
        "the working folder": os.getcwd(),  # noqa: PTH109 - no object, a name to compare
        "sys.path": list(sys.path),
        "the root logger's handlers and level": (list(logging.root.handlers), logging.root.level),
        "the class of loggers that logging makes": logging.getLoggerClass(),
        "the random state of random": random.getstate(),
        "the random state of numpy": repr(np.random.get_state()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's default type": torch.get_default_dtype(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "whether torch is deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    return state if seeded else {**state, "the random state of torch": torch.get_rng_state().tolist()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is no longer as it was, with the names of environment variables where it is those."""
    found = [what for what in before if before[what] != after[what]]
    environments = before["the environment"], after["the environment"]
    differing = sorted(dict(set(environments[0].items()) ^ set(environments[1].items())))
    return [f"{what} ({', '.join(differing)})" if what == "the environment" else what for what in found]


@contextmanager
def watched(*, seeded: bool = False) -> Iterator[list[str]]:
    """A list that holds, after the block, what the block changed in the process."""
    before, found = process_state(seeded=seeded), list[str]()
    try:
        yield found
    finally:
        found += changed(before, process_state(seeded=seeded))
