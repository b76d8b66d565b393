"""Why the bytes of a packed file cannot be unpacked."""

from __future__ import annotations


class Damaged(Exception):
    """They cannot be what `pqd pack` wrote."""


class TooLarge(Exception):
    """They may be right, but ask for more memory than they are allowed to."""
