"""What the installed plugins brought, by kind and name, with the owner of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from pqd_core.host.errors import Problem, did_you_mean
from pqd_core.records import CheckupDef, CommandDef, ComponentDef, RecipeDef

R = TypeVar("R", bound=ComponentDef | RecipeDef | CommandDef | CheckupDef)


@frozen
class Owned(Generic[R]):
    """A record and the plugin that brought it."""

    plugin: str
    record: R

    @property
    def full_name(self) -> str:
        """`plugin:name`, which is never ambiguous."""
        return f"{self.plugin}:{self.record.name}"


class UnknownName(LookupError):
    """No such component, or more than one; the message says what to write instead."""


@define
class Registry(Generic[R]):
    """All records of one kind (`stage`, `dataset`, ...)."""

    noun: str
    suspects: list[str]
    """Plugins that failed to load: any of them may have brought a missing name."""
    _owned: dict[str, list[Owned[R]]] = field(factory=lambda: defaultdict(list))

    def add(self, plugin: str, record: R) -> None:
        """Make `record` findable by its name and by `plugin:name`; a second one of a plugin replaces the first."""
        others = [owned for owned in self._owned[record.name] if owned.plugin != plugin]
        self._owned[record.name] = [*others, Owned(plugin, record)]

    def find(self, name: str) -> Owned[R]:
        """The record that `name` or `plugin:name` means.

        Raises:
            UnknownName: there is none, or several plugins bring one.
        """
        plugin, _, short = name.rpartition(":")
        found = [owned for owned in self._owned.get(short, ()) if plugin in ("", owned.plugin)]
        if len(found) == 1:
            return found[0]
        raise UnknownName(str(self._ambiguous(found) if found else self._unknown(name)))

    def _ambiguous(self, found: list[Owned[R]]) -> Problem:
        names = " or ".join(owned.full_name for owned in found)
        return Problem("", f"{len(found)} plugins bring a {self.noun} of this name", f"write {names}")

    def _unknown(self, name: str) -> Problem:
        return Problem("", f"unknown {self.noun} '{name}'", did_you_mean(name, list(self.names())) + self.suspicion)

    @property
    def suspicion(self) -> str:
        """What to add where a name is not found: who may have brought it; nothing if all plugins were loaded."""
        failed = ", ".join(self.suspects)
        return f" (plugins that failed to load: {failed}; see pqd plugins -v)" if failed else ""

    def names(self) -> Iterator[str]:
        """All names that `find` accepts as they are."""
        for name, owned in sorted(self._owned.items()):
            if len(owned) == 1:
                yield name
            else:
                yield from (o.full_name for o in owned)

    def __iter__(self) -> Iterator[Owned[Any]]:
        for _, owned in sorted(self._owned.items()):
            yield from owned
