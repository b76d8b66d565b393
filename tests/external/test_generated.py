"""What `pqd new-plugin` writes is built and installed as anything from a package index is, and passes its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KINDS = ("stage", "backbone", "dataset", "runtime", "measurer")


def done(*command: str | Path, **env: str) -> str:
    finished = subprocess.run(
        list(map(str, command)), env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-2000:]
    return finished.stdout


def test_a_generated_plugin_of_each_kind_can_be_installed_and_passes_its_tests(tmp_path: Path) -> None:
    pqd, site = Path(sys.executable).with_name("pqd"), tmp_path / "site"
    for kind in KINDS:
        done(pqd, "new-plugin", f"made-{kind}", "--kind", kind, "--folder", tmp_path)
    places = [tmp_path / f"pqd-made-{kind}" for kind in KINDS]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    done(*pip, *places)
    listed = done(pqd, "plugins", PYTHONPATH=str(site))
    assert all(f"made-{kind}  (pqd-made-{kind} 0.1.0, pqd_made_{kind})" in listed for kind in KINDS)
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    assert "passed" in done(sys.executable, "-m", "pytest", *options, *places, PYTHONPATH=str(site))
