"""Short names of pipelines, for plots: `M → I → L`, with a key to the letters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

DENSE = "dense"
ARROW = " → "


def in_arrows(pipeline: Iterable[str]) -> str:
    """The pipeline in whole words."""
    return ARROW.join(pipeline) or "dense baseline"


@frozen
class Letters:
    """A letter or more for each stage, no two alike."""

    of: dict[str, str]

    @property
    def stages(self) -> list[str]:
        """The stages; their place here is their colour in every plot."""
        return list(self.of)

    def short(self, pipeline: Iterable[str]) -> str:
        """The pipeline in letters."""
        return "→".join(self.of.get(stage, stage) for stage in pipeline) or DENSE


def letters(stages: Iterable[str]) -> Letters:
    """As few letters as tell the stages apart; a stage that stands twice keeps its number (`magnitude@3`)."""
    of: dict[str, str] = {}
    for stage in dict.fromkeys(stages):
        word, at, place = stage.partition("@")
        shorter = (word[:n].upper() + at + place for n in range(1, len(word) + 1))
        of[stage] = next((name for name in shorter if name not in of.values()), stage)
    return Letters(of)


def file_name(words: str, taken: set[str]) -> str:
    """A plain name for a file or a place on the page, like none that is `taken`; now it is taken."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", words)[:80]
    numbered = (plain, *(f"{plain}-{i}" for i in range(2, len(taken) + 3)))
    found = next(name for name in numbered if name.lower() not in taken)
    taken.add(found.lower())
    return found
