"""Reading a `.pt2` file from a stranger without running what the stranger wrote.

`torch.export.load` (2.15) is not made for that: it unpickles weights that the archive marks as pickled and custom
objects (`weights_only=False`), falls back to full unpickling of the sample inputs, evaluates shape expressions with
sympy (Python's `eval`), and imports modules that tree specifications name. So nothing reaches it but a fresh archive
that holds plain tensors, no pickle, and a graph in which every string is of a known, harmless form.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib  # noqa: F401 - registers the operators
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from pqd_runtimes import MAX_MEGABYTES
from pqd_runtimes.refusals import EXPORT_AGAIN, check_size, refuse, told_as

GRAPH, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/sample_inputs/model\.pt|data/(weights/(model_weights_config\.json|weight_\d+)"
    r"|constants/(model_constants_config\.json|tensor_\d+))"
)
PLAIN_TENSOR = re.compile(r"(weight|tensor)_\d+")
OPERATOR = re.compile(
    r"torch\.ops\.(aten|quantized_decomposed)\.([a-z]\w*|_assert_(scalar|tensor_metadata))\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|le|lt|ge|gt|getitem)|torch\.sym_(min|max|not)"
)
OPENS_FILES = re.compile(r"torch\.ops\.aten\.(from_file|save)\.\w+")
TEXT = re.compile(r"[\w.,;:/+-]*")
SYMBOL_OR_NUMBER = re.compile(r"Symbol\('[su]\d+'(, (positive|nonnegative|integer)=True)*\)|Integer\(-?\d{1,18}\)")
ARITHMETIC = re.compile(r"(Mul|Add|Min|Max|FloorDiv|Mod|[x\d ,()-])*")
ONE_INPUT = pytree.treespec_dumps(pytree.tree_structure(((0,), {})))
ONE_OUTPUT = pytree.treespec_dumps(pytree.tree_structure(0))


def read_program(file: Path, max_megabytes: int = MAX_MEGABYTES) -> ExportedProgram:
    """The program in `file`; reading it runs no code from it.

    Raises:
        DeployError: the file is damaged, too large, or holds anything but plain tensors and a graph of ATen operators.
    """
    size = check_size(file, max_megabytes)
    with told_as(file, "this is no readable .pt2 archive", EXPORT_AGAIN):
        members = _members(file, size)
    with told_as(file, "torch.export cannot load it", EXPORT_AGAIN):
        _check(file, members)
        return torch.export.load(_packed(members))


def _members(file: Path, size: int) -> dict[str, bytes]:
    """What is in the archive, by name; stored without compression, so no more than the file's own size."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename.partition("/")[2] for entry in entries]
        unknown = [name for name in names if not MEMBER.fullmatch(name)]
        if unknown or len(set(names)) < len(names):
            raise refuse(file, f"unexpected content in the archive: {(unknown or names)[0]!r}")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise refuse(file, "compressed content in the archive")
        if sum(entry.file_size for entry in entries) > size:
            raise refuse(file, "its parts are larger than the archive")
        return {name: archive.read(entry) for name, entry in zip(names, entries, strict=True)}


def _packed(members: dict[str, bytes]) -> io.BytesIO:
    """A new archive of `members`, so that torch's zip reader sees just what was checked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    buffer.seek(0)
    return buffer


def _check(file: Path, members: dict[str, bytes]) -> None:
    missing = [name for name in (GRAPH, SAMPLES, *PAYLOADS) if name not in members]
    if missing:
        raise refuse(file, f"{missing[0]} is missing from the archive")
    if members[SAMPLES]:
        raise refuse(file, "it carries pickled sample inputs")
    for name in PAYLOADS:
        for key, payload in json.loads(members[name])["config"].items():
            if payload["use_pickle"] or not PLAIN_TENSOR.fullmatch(payload["path_name"]):
                raise refuse(file, f"{key!r} is pickled, not a plain tensor")
    problem = next(graph_problems(json.loads(members[GRAPH])), None)
    if problem:
        raise refuse(file, problem, "only graphs of ATen operators on tensors are loaded")


def graph_problems(program: dict[str, Any]) -> Iterator[str]:
    """What makes a serialized program unfit to be loaded, sentence by sentence."""
    if program["guards_code"] or program["graph_module"].get("treespec_namedtuple_fields"):
        yield "it carries source code or foreign types"
    for call in program["graph_module"]["module_call_graph"]:
        signature = call["signature"]
        if signature and (signature.pop("in_spec"), signature.pop("out_spec")) != (ONE_INPUT, ONE_OUTPUT):
            yield "it does not map one tensor to one tensor"
    for key, text in _strings(program, ""):
        if not _harmless(key, text):
            yield f"{key or 'a name'} {text[:80]!r} is not allowed"


def _harmless(key: str, text: str) -> bool:
    if key == "target":
        return bool(OPERATOR.fullmatch(text)) and not OPENS_FILES.fullmatch(text)
    if key == "expr_str":
        return len(text) < 1000 and bool(ARITHMETIC.fullmatch(SYMBOL_OR_NUMBER.sub("x", text)))
    return bool(TEXT.fullmatch(text))


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every string in a JSON value, keys included, with the key that it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry, key)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield "", name
            yield from _strings(entry, name)
