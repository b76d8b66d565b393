"""Where one case is tried: a folder, a host with the record, and everything that its checks share."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from attrs import define, field

from pqd_core.host.entries import Entry
from pqd_core.host.plugins import BRINGS, Host
from pqd_core.testing.case import Case, CheckFailed

GIVEN = "given"


@define(eq=False)
class Workshop:
    """The place of one case; what is expensive is made on first use, and kept."""

    case: Case
    folder: Path = field(init=False)
    shared: dict[Any, Any] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pqd-check-"))
        weakref.finalize(self, shutil.rmtree, str(self.folder), True)

    @cached_property
    def host(self) -> Host:
        """A host with the toys, the networks to start from, and the records of the case."""
        from pqd_core.testing import starts, toy_host

        return toy_host(starts, records=(*self.case.after, self.case.record))

    @cached_property
    def values(self) -> dict[str, Any]:
        """The settings of the case as a spec would write them."""
        given = self.case.settings
        return dict(given if isinstance(given, Mapping) else given(self.new_folder("settings")))

    @cached_property
    def settings(self) -> Any:
        """The settings of the case, defaults filled in."""
        return self.case.component.settings.model_validate(self.values, context={"host": self.host})

    @property
    def entry(self) -> Entry:
        """The record with its settings, as a spec that asks for it would hold it."""
        return Entry(GIVEN, self.case.component, self.settings)

    @property
    def noun(self) -> str:
        """`stage`, `dataset`, ..."""
        return next(noun for noun, kind in BRINGS.values() if isinstance(self.case.record, kind))

    def new_folder(self, name: str) -> Path:
        """An empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))


@cache
def workshop(case: Case) -> Workshop:
    """The workshop of a case, one for all its checks."""
    return Workshop(case)


@contextmanager
def refusals(what: str) -> Iterator[list[str]]:
    """The reasons of a refusal, if the block refuses; any other error than a `PqdError` fails the check."""
    from pqd_core.host.errors import ContractError, PqdError

    reasons: list[str] = []
    try:
        yield reasons
    except ContractError as error:
        raise CheckFailed(f"{what}: neither done nor refused: {error}") from error
    except PqdError as error:
        reasons += map(str, error.problems)
        if not all(problem.what.strip() for problem in error.problems) or not error.problems:
            raise CheckFailed(f"{what}: refused without a reason") from error
    except (Exception, SystemExit) as error:
        raise CheckFailed(
            f"{what}: raised {type(error).__name__}: {error}; raise a PqdError that says what cannot be done and why"
        ) from error
