"""Where NNCF has put which quantizers: its own configuration, checked, as a tensor that lies beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from pqd_core import PqdError, Problem
from pqd_nncf import HERE

LARGEST_BYTES = 2**24
LARGEST_SIZE = 2**20
Size = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]


class _Part(BaseModel):
    """Fields that a later NNCF adds are kept; those that decide what is built are checked."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Grid(_Part):
    """What a quantizer rounds to."""

    num_bits: Literal[8]
    scale_shape: tuple[Size, ...] = Field(max_length=5)


class Quantizer(_Part):
    """One quantizer, and the operators that it stands at."""

    hook_names_in_model: tuple[str, ...]
    module_path: Literal["nncf.torch.quantization.layers"]
    module_cls_name: Literal["SymmetricQuantizer", "AsymmetricQuantizer"]
    module_config: Grid


class Placement(_Part):
    """All quantizers of a network, as `nncf.torch.get_config` tells them."""

    compression_state: tuple[Quantizer, ...]

    def for_nncf(self) -> dict[str, Any]:
        """What `nncf.torch.load_from_config` takes."""
        return self.model_dump(mode="json")

    def as_tensor(self) -> Tensor:
        """JSON in UTF-8, uint8."""
        return torch.frombuffer(bytearray(self.model_dump_json().encode()), dtype=torch.uint8)


def read_placement(tensor: Tensor) -> Placement:
    """What `as_tensor` wrote; it may come from a stranger.

    Raises:
        PqdError: it is damaged, or asks for anything but quantizers to 8 bits.
    """
    if tensor.dtype != torch.uint8 or tensor.numel() > LARGEST_BYTES:
        raise PqdError(Problem(HERE, "the artifact's list of quantizers is no text of a legal length"))
    try:
        return Placement.model_validate_json(bytes(tensor.cpu().numpy()))
    except ValidationError as error:
        raise _wrong("the artifact's list of quantizers", error, "take the artifact away and run again") from error


def placement_of(config: Mapping[str, Any]) -> Placement:
    """What `nncf.torch.get_config` told.

    Raises:
        PqdError: it is not what NNCF tells of quantizers to 8 bits, in the versions that are known here.
    """
    try:
        return Placement.model_validate(config)
    except ValidationError as error:
        raise _wrong("NNCF's list of quantizers", error, "install the version that pqd[nncf] asks for") from error


def _wrong(what: str, error: ValidationError, hint: str) -> PqdError:
    first = error.errors()[0]
    return PqdError(Problem(HERE, f"{what} is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}", hint))
