"""Starts `pqd` processes by forking, so that a test that needs ten of them imports torch once.

Reads one JSON request a line: `{"start": {"argv", "env", "cwd", "output", "file_limit", "die_at"}}` answers the child's
process id, `{"wait": pid}` its exit code, negative for a signal. The children are ordinary processes: killed,
interrupted and limited for real. A child that is to `die_at` its n-th change of the file system gets SIGKILL there;
with `die_at` 0 it goes on and says at its end how many changes there were.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
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
            atexit._run_exitfuncs()
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
    if (die_at := request.get("die_at")) is not None:
        sys.addaudithook(_reaper(die_at))
    sys.path[:0] = request["env"].get("PYTHONPATH", "").split(os.pathsep)


CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate"}


def _reaper(die_at: int) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that counts changes of the file system, and kills the process just before one of them."""
    changes = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            changes += 1
            if changes == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    atexit.register(lambda: sys.stdout.write(f"changes: {changes}\n"))
    return hook


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
    import light  # noqa: F401 - imported here so that the children need not
    import torch

    import pqd_core.host.terminal
    import pqd_core.model  # noqa: F401
    from pqd_core import describe_cpu

    torch.set_num_threads(1)
    describe_cpu()  # asks another process, and remembers
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        request = json.loads(line)
        answer = start(request["start"]) if "start" in request else wait(request["wait"])
        print(answer, flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
