"""An unexpected error in a form that may be logged: its type and place, never its arguments."""

from __future__ import annotations

from lifecycle.run import first_cause
from secrecy.journal import place_of


def describe(error: BaseException) -> dict[str, str]:
    """Return keywords for a log line about ``error``, an exception group by its first leaf.

    Errors of ours, which carry a hint, are made to be shown; others may hold what the code was
    working on.
    """
    cause = first_cause(error)
    shown = {"error": type(cause).__name__, "place": place_of(cause)}
    return shown | {"cause": str(cause)} if hasattr(cause, "hint") else shown
