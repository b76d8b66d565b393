"""What goes wrong, told to a person: every problem at its place, and what to do next."""

from __future__ import annotations

from difflib import get_close_matches

from attrs import frozen


@frozen
class Problem:
    """One thing that is wrong: where, what, and what to do about it."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}" + (f"; {self.hint}" if self.hint else "")


class PqdError(Exception):
    """Base of all errors that are shown without a traceback; `exit_code` is the shell's."""

    exit_code = 1

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem("", p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))


class SpecError(PqdError):
    """A spec that is wrong; carries all its problems at once."""

    exit_code = 2


class PlanError(PqdError):
    """No legal order, or a plugin objects."""

    exit_code = 2


class DataError(PqdError):
    """Data, or a checkpoint, that cannot be what the spec says it is."""

    exit_code = 2


class PluginError(PqdError):
    """A plugin, or a command of one, that cannot be loaded; for a whole plugin under `PQD_STRICT=1` only."""

    exit_code = 2


class StageError(PqdError):
    """A stage raised; chained to what it raised."""


class ContractError(StageError):
    """A stage did not do what its record declares."""


class StoreError(PqdError):
    """The store or a run folder cannot be written or read."""


class Interrupted(PqdError):
    """A person pressed Ctrl-C."""

    exit_code = 130


class DeployError(PqdError):
    """A model that a runtime cannot take, or a deployed file that disagrees with its model."""


class ArtifactDamaged(PqdError):
    """A stored folder that does not match its manifest."""


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint that names the nearest known words, or all of them when nothing is near."""
    near = get_close_matches(word, known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "known: " + ", ".join(sorted(known)) if known else "there are none"
