"""The forms of a report that plugins bring, written into the run folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pqd_core.host import paths
from pqd_core.host.errors import StoreError
from pqd_core.host.log import get_logger
from pqd_core.host.registry import Owned
from pqd_core.records import resolve

if TYPE_CHECKING:
    from pqd_core.host.compare import Comparison
    from pqd_core.host.plugins import Host
    from pqd_core.report import Report

THE_CORES = {"report.json", "results.csv", "log.jsonl", "deployed"}


def publish(report: Report, folder: Path, host: Host) -> None:
    """`report.json` and `results.csv` are in `folder`, and every form that renderers make of the report.

    A renderer that fails is listed in `report.problems`.
    """
    report.write(folder)
    if failed := render_files(report, folder, host.registry("renderer")):
        report.problems += [problem for problem in failed if problem not in report.problems]
        report.write(folder)


def render_files(report: Report, folder: Path, renderers: Iterable[Owned[Any]]) -> list[str]:
    """What each of `renderers` makes of the report is in `folder`; a sentence for each that failed.

    Raises:
        StoreError: the folder cannot be written.
    """
    return [problem for owned in renderers for problem in _render(owned, owned.record.load, report, folder)]


def render_comparison(found: Comparison, folder: Path, renderers: Iterable[Owned[Any]]) -> list[str]:
    """What each of `renderers` that can makes of two runs is in `folder`; a sentence for each that failed.

    Raises:
        StoreError: the folder cannot be written.
    """
    able = (owned for owned in renderers if owned.record.compare)
    return [problem for owned in able for problem in _render(owned, owned.record.compare, found, folder)]


def _render(owned: Owned[Any], load: Any, given: Report | Comparison, folder: Path) -> Iterator[str]:
    try:
        _write(resolve(load)(given), folder)
    except StoreError:
        raise
    except (Exception, SystemExit) as error:
        get_logger("pqd.report").exception("renderer failed", renderer=owned.full_name)
        yield f"{owned.record.file} is not written: renderer {owned.full_name} failed: {error!r}"


def _write(files: Mapping[str, str | bytes], folder: Path) -> None:
    for name, content in files.items():
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith(("/", ".")) or parts[0] in THE_CORES:
            raise ValueError(f"{name!r} is no place for a renderer's file")
        file = paths.make_folder(folder.joinpath(*parts[:-1]), "run folder") / parts[-1]
        paths.write_bytes(file, content.encode("utf-8") if isinstance(content, str) else content)
