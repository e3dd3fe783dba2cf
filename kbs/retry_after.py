"""The ``Retry-After`` header, both forms of RFC 9110 10.2.3: seconds, and a date."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_CHARACTERS: Final = 64
MAX_SECONDS_DIGITS: Final = 8


def retry_after_seconds(value: str | None, date: str | None, now: float) -> float | None:
    """Return the wait that a server asks for, in seconds, or ``None`` if it says nothing usable.

    ``date`` is the answer's ``Date`` header: the server's own idea of now, against which its date
    is meant. Without one, ``now`` counts, the guest's unix time. A date of the past is 0.
    """
    if value is None or len(value) > MAX_CHARACTERS:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text) if len(text) <= MAX_SECONDS_DIGITS else None
    until = _moment(text)
    if until is None:
        return None
    server_now = _moment(date) if date is not None and len(date) <= MAX_CHARACTERS else None
    return max(until - (server_now if server_now is not None else now), 0.0)


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return (aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
