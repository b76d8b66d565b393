"""`pqd pack` and `pqd unpack`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pqd_pack import MAX_MEGABYTES
from pqd_pack.account import FLOAT_WEIGHTS, Account, account, entropy_bits, frequencies, weights_in
from pqd_pack.companions import read_whole
from pqd_pack.damage import Damaged, TooLarge
from pqd_pack.disk import read, refuse, refuse_existing, refuse_source, write
from pqd_pack.packing import pack as pack_files
from pqd_pack.packing import unpack as unpack_files

SUFFIX = ".pqdz"
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]
LimitOption = Annotated[
    int, typer.Option("--max-megabytes", min=1, help="What is larger, packed or unpacked, is refused.")
]


def pack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx, an OpenVINO .xml, or any other file.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT", help="FILE.pqdz if not given.")] = None,
    force: ForceOption = False,
    max_megabytes: LimitOption = MAX_MEGABYTES,
) -> None:
    """Pack one deployable file, with the weights that lie beside it, and try at once whether it unpacks."""
    files = read_whole(file, max_megabytes * 2**20)
    target = out or file.with_suffix(SUFFIX)
    refuse_source([target], [file.with_name(name) for name in files])
    refuse_existing([target], force)
    size, began = sum(map(len, files.values())), time.perf_counter()
    packed = pack_files(files)
    made = time.perf_counter()
    if unpack_files(packed, size) != files:
        raise AssertionError(f"{file} would not unpack to what it is; nothing was written")
    checked = time.perf_counter()
    write(target.parent, {target.name: packed}, force)
    typer.echo(f"{' + '.join(files)}: {size:,} bytes -> {target}: {len(packed):,} bytes, {_share(len(packed), size)}")
    for sentence in _of_weights(account(packed, size), files):
        typer.echo(sentence)
    typer.echo(f"packed in {made - began:.1f} s; unpacked and compared bit for bit in {checked - made:.1f} s")


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that pqd pack has written.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where its files go.")] = Path(),
    only_list: Annotated[bool, typer.Option("--list", help="Say what is in it and write nothing.")] = False,
    force: ForceOption = False,
    max_megabytes: LimitOption = MAX_MEGABYTES,
) -> None:
    """Give back the files that were packed, or list them; their checksums are compared."""
    largest = max_megabytes * 2**20
    data = read(file, largest)
    with _told(file):
        found = account(data, largest)
    if only_list:
        typer.echo("\n".join(_listing(file, found)))
        return
    targets = [out / part.name for part in found.header.files]
    refuse_source(targets, [file])
    refuse_existing(targets, force)
    began = time.perf_counter()
    with _told(file):
        files = unpack_files(data, largest)
    seconds = time.perf_counter() - began
    write(out, files, force)
    for name, content in files.items():
        typer.echo(f"{out / name}: {len(content):,} bytes, sha-256 as it was packed")
    typer.echo(f"unpacked in {seconds:.1f} s")


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        raise refuse(file, str(error), "get the file again from where it came") from error
    except TooLarge as error:
        raise refuse(file, str(error), error.hint) from error


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} of it" if whole else "of nothing"


def _of_weights(found: Account, files: Mapping[str, bytes]) -> Iterator[str]:
    counts = sum(frequencies(weight) for weight in weights_in(files))
    for part in (part for part in found.parts if part.kind == FLOAT_WEIGHTS):
        yield f"{part.tensors:,} tensors of float weights, {part.size:,} bytes, take {part.packed:,}"
    if found.bits_per_weight is None or isinstance(counts, int):
        yield "no INT8 weights were found in it"
        return
    total = int(counts.sum())
    yield (
        f"{total:,} INT8 weights, {counts[0] / total:.1%} zeros: {found.bits_per_weight:.3f} bits each, "
        f"{entropy_bits(counts) / total:.3f} by their frequencies alone"
    )


def _listing(file: Path, found: Account) -> Iterator[str]:
    yield f"{file}: {found.packed:,} bytes, {_share(found.packed, found.header.size)}"
    for part in found.header.files:
        yield f"  {part.name}  {part.size:,} bytes  sha-256 {part.sha256}"
    yield f"  {'':34}{'tensors':>9}{'bytes':>14}{'packed':>14}"
    for kind in found.parts:
        yield f"  {kind.kind:34}{kind.tensors or '':>9}{kind.size:>14,}{kind.packed:>14,}"
    if found.bits_per_weight is not None:
        yield f"  {found.bits_per_weight:.3f} bits for each INT8 weight"
