"""A text that must not be seen."""

from __future__ import annotations


class Secret(str):
    """A string that does not show itself when it is printed or logged."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return str.__str__(self)
