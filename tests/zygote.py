"""Starts `pqd` processes by forking, so that a test that needs ten of them imports torch once.

Reads one JSON request a line: `{"start": {"argv", "env", "cwd", "output", "file_limit"}}` answers the child's process
id, `{"wait": pid}` its exit code, negative for a signal. The children are ordinary processes: killed, interrupted and
limited for real.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from typing import Any


def start(request: dict[str, Any]) -> int:
    """A child that runs `pqd` with the request's arguments, environment and folder."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            _become(request)
            code = _main(request["argv"])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def _become(request: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    output = os.open(request["output"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    if limit := request.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.path[:0] = request["env"].get("PYTHONPATH", "").split(os.pathsep)


def _main(argv: list[str]) -> int:
    from pqd_core.host.cli import main

    sys.argv = ["pqd", *argv]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def wait(pid: int) -> int:
    """The child's exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve() -> None:
    """Answer requests until the input ends."""
    import torch

    import light  # noqa: F401 - imported here so that the children need not
    import pqd_core.host.terminal
    import pqd_core.model  # noqa: F401

    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = start(request["start"]) if "start" in request else wait(request["wait"])
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
