"""Opens many spoiled copies of one deployed file, in a process of limited memory: `python fuzz.py RUNTIME FILE COUNT`.

Prints how many were opened and how many refused; whatever else happens to a copy ends the process with its traceback.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from pqd_core import DeployError
from pqd_runtimes import RUNTIMES

LIMIT_BYTES = 6 * 2**30
RECORDS = {record.name: record for record in RUNTIMES}


def spoiled(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, a stretch cut out, doubled or overwritten, digits put in, or the end cut off."""
    at, length = rng.randrange(len(content)), rng.choice([1, 2, 8, 64, 1024])
    kind = rng.randrange(6)
    if kind == 0:
        changed = bytearray(content)
        for _ in range(rng.choice([1, 4, 16])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    middle = {
        1: b"",
        2: content[at : at + length] * 2,
        3: rng.randbytes(length),
        4: rng.choice([b"9" * 9, b"-1", b"\xff" * 9, b"\x7f" * 8]) + content[at : at + length],
    }
    return content[:at] if kind == 5 else content[:at] + middle[kind] + content[at + length :]


def outcome(runtime: str, file: Path) -> str:
    """What becomes of the file at every way to it."""
    record = RECORDS[runtime]
    module, settings = record.implementation(), record.settings()
    try:
        module.input_shape(file, settings)
        module.weights(file)
        module.open_session(file, 1, settings, 1).close()
    except DeployError as error:
        return "refused" if str(file.parent) in str(error) else f"refused without naming the file: {error}"
    return "opened"


def main() -> None:
    """Spoil, open, count."""
    runtime, source, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    RECORDS[runtime].implementation()  # what the runtime itself needs is not the file's doing
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    parts = {part.name: part.read_bytes() for part in source.parent.iterdir() if part.stem == source.stem}
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            rng = random.Random(seed)
            victim = rng.choice(sorted(parts))
            for name, content in parts.items():
                (Path(folder) / name).write_bytes(spoiled(content, rng) if name == victim else content)
            found[outcome(runtime, Path(folder) / source.name)] += 1
    # Not getrusage's: that begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_bytes = int(status.split("VmHWM:")[1].split()[0]) * 1024
    sys.stdout.write(json.dumps({"peak_bytes": peak_bytes, **found}) + "\n")


if __name__ == "__main__":
    main()
