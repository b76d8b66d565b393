"""`pqd bench`: any deployed files side by side, measured as a run measures them, without a spec."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from attrs import define, field
from rich.console import Console

from pqd_measure import LatencySettings
from pqd_measure.bench_files import BenchFile, read_files
from pqd_measure.bench_images import Unfit, fitting_shape, random_images, read_images
from pqd_measure.bench_options import Shape, baseline_among, checked_settings, shape_written
from pqd_measure.bench_place import try_place, write
from pqd_measure.bench_report import as_json, as_text
from pqd_measure.comparison import Comparison
from pqd_measure.cores import usable_cpus
from pqd_measure.findings import Missing
from pqd_measure.process import Worker, WorkerFailed
from pqd_measure.side_by_side import Subject, Timed, time_side_by_side, what_to_open
from pqd_measure.work import Work

IMAGES = 64
"""How many different images the inferences take turns with, unless one batch is larger."""


def bench(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Deployed files: FILE, or FILE@RUNTIME[,KEY=VALUE...].")
    ],
    runtime: Annotated[
        str | None, typer.Option(help="Opens what it can; the files' own runtimes if not given.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Images in an .npz or .npy; random ones if not given.", show_default=False)
    ] = None,
    shape: Annotated[str | None, typer.Option(metavar="C,H,W", help="Of an image, where a file does not say.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The file of ratio 1; the first if not given.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per inference.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per inference; all cores if not given.")] = None,
    processes: Annotated[int, typer.Option(min=2, help="Fresh processes that each file gets in turn.")] = 10,
    rounds: Annotated[int, typer.Option(min=5, help="Turns of each file over all its processes.")] = 30,
    seconds: Annotated[float, typer.Option(min=0.01, help="Time that the turns of one file take in all.")] = 3.0,
    noise_limit: Annotated[float, typer.Option(min=0, help="Share from which on an interval is called noisy.")] = 0.1,
    memory_limit_mb: Annotated[int, typer.Option(min=256, help="Megabytes that a file's process may take.")] = 8192,
    limit_s: Annotated[float, typer.Option(min=1, help="Seconds without an answer that end a process.")] = 120,
    as_json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Measure files side by side."""
    chosen = read_files(files, runtime)
    settings = checked_settings(
        batch=batch,
        threads=threads or len(usable_cpus()),
        processes=processes,
        rounds=rounds,
        seconds=seconds,
        noise_limit=noise_limit or 1e-9,
        memory_limit_mb=memory_limit_mb,
        limit_s=limit_s,
    )
    against, size = baseline_among(chosen, baseline), None if shape is None else shape_written(shape)
    if out is not None:
        try_place(out, [images, *(file for one in chosen for file in (one.file, *one.beside))])
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="pqd-") as scratch, console.status("looking at the files") as status:
        bench = _Bench(chosen, settings, Path(scratch), images, size)
        compared = bench.compared(against, lambda what: status.update(f"timing {len(chosen)} files, {what}"))
    found = json.dumps(as_json(compared), indent=1)
    try:
        if out is not None:
            write(out, found + "\n")
    finally:  # a disk that is full by now takes away the file, not what was measured
        typer.echo(found if as_json_ else as_text(compared))
    if any(timed.failure is not None for timed in compared.timed.values()):
        raise typer.Exit(1)


@define
class _Bench:
    """The files on their way to being timed."""

    files: Sequence[BenchFile]
    settings: LatencySettings
    scratch: Path
    images: Path | None
    shape: Shape | None
    saved: dict[Shape, Path] = field(factory=dict)
    work: dict[str, Work | Missing] = field(factory=dict)

    def compared(self, baseline: BenchFile, progress: Callable[[str], None]) -> Comparison:
        """All that can be opened timed side by side; the others with the reason why they cannot."""
        given = None if self.images is None else read_images(self.images, self._count)
        subjects, failed = dict[str, Subject](), dict[str, Timed]()
        for one in self.files:
            try:
                subjects[one.label] = self._subject(one, given)
            except (WorkerFailed, Unfit) as failure:
                failed[one.label] = Timed(failure=str(failure))
        threads = self.settings.threads or 1
        timed = failed | time_side_by_side(subjects, self.settings, threads, self.scratch, progress=progress)
        return Comparison(self.files, timed, baseline, self.settings, threads, self.images, self.work)

    @property
    def _count(self) -> int:
        batch = self.settings.batch
        return max(batch, IMAGES // batch * batch)

    def _subject(self, one: BenchFile, given: np.ndarray | None) -> Subject:
        with Worker(self.scratch / "look.log", 1) as worker:
            opened = what_to_open(one.file, one.runtime.load, one.settings)
            found = worker.ask("look", self.settings.limit_s, limit_mb=self.settings.memory_limit_mb, **opened)
            takes, given_shape = found["input_shape"], None if given is None else given.shape[1:]
            shape = fitting_shape(takes, self.settings.batch, self.shape, given_shape)
            self.work[one.label] = self._work(worker, shape if None in (takes or ())[1:] else None)
        return Subject(one.file, one.runtime.load, one.settings, self._saved(shape, given))

    def _work(self, worker: Worker, shape: Shape | None) -> Work | Missing:
        """What is run of the file that the worker has looked at; the file is timed also if that cannot be told."""
        try:
            return Work(**worker.ask("work", self.settings.limit_s, shape=shape))
        except WorkerFailed as failure:
            return Missing(str(failure))

    def _saved(self, shape: Shape, given: np.ndarray | None) -> Path:
        if shape not in self.saved:
            self.saved[shape] = self.scratch / f"images-{len(self.saved)}.npy"
            made = random_images(shape, self._count, self.settings.seed) if given is None else given
            np.save(self.saved[shape], made)
        return self.saved[shape]
