"""Files that are of no use without one another."""

from __future__ import annotations

from pathlib import Path

from pqd_pack.disk import read, refuse
from pqd_pack.header import is_plain

PARTNERS = {".xml": ".bin", ".bin": ".xml"}
"""OpenVINO's graph and its weights."""


def read_whole(file: Path, largest: int) -> dict[str, bytes]:
    """`file` and what belongs to it, by name.

    Raises:
        DataError: a part is not there, lies elsewhere, or is longer than `largest` bytes.
    """
    files = {file.name: read(file, largest)}
    if not is_plain(file.name):
        raise refuse(file, "its name has characters that not every machine can write", "rename it")
    suffix = file.suffix.lower()
    partner = file.with_suffix(PARTNERS.get(suffix, suffix))
    if partner != file and (partner.is_file() or _names_weights(files[file.name], suffix)):
        files[partner.name] = read(partner, largest)
    if suffix == ".onnx" and (elsewhere := _external(files[file.name])):
        what = f"its weights lie in another file, {elsewhere}"
        raise refuse(file, what, "save it with its weights inside (onnx.save without external data), then pack it")
    return files


def _names_weights(data: bytes, suffix: str) -> bool:
    return suffix == ".xml" and b"<net" in data[:200] and b'type="Const"' in data


def _external(data: bytes) -> str:
    """Where an ONNX file keeps weights outside itself; empty if nowhere, or if it is no ONNX file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        tensors = onnx.load_model_from_string(data).graph.initializer
    except DecodeError:
        return ""
    places = (entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    return next(places, "")
