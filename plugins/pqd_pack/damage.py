"""Why the bytes of a packed file cannot be unpacked."""

from __future__ import annotations

RAISE_LIMIT = "raise the limit with --max-megabytes if you trust it"


class Damaged(Exception):
    """They cannot be what `pqd pack` wrote."""


class TooLarge(Exception):
    """They may be right, but ask for more memory or time than they are allowed to; `hint` says what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint
