"""Conditional reads and copies: the four headers, their copy-source forms and their answers.

Source: OSS documents "GetObject" and "CopyObject".
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum

from mocktee.oss.errors import OssAnswerError


class Outcome(Enum):
    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"


def check_conditions(
    headers: Mapping[str, str], etag: str, modified: float, *, prefix: str = ""
) -> Outcome:
    """``prefix`` is ``x-oss-copy-source-`` for copies; ``etag`` comes without quotes.

    Raises :class:`OssAnswerError` (PreconditionFailed) for the two positive conditions.
    """
    seconds = int(modified)
    match = headers.get(prefix + "if-match")
    if match is not None and not _names(match, etag):
        raise _failed("If-Match")
    unmodified = _seconds(headers.get(prefix + "if-unmodified-since"))
    if unmodified is not None and seconds > unmodified:
        raise _failed("If-Unmodified-Since")
    none_match = headers.get(prefix + "if-none-match")
    if none_match is not None:
        return Outcome.NOT_MODIFIED if _names(none_match, etag) else Outcome.PROCEED
    since = _seconds(headers.get(prefix + "if-modified-since"))
    if since is not None and seconds <= since:
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def _names(header: str, etag: str) -> bool:
    return any(part.strip().strip('"') in {etag, "*"} for part in header.split(","))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError):
        return None  # an unreadable date is no condition, RFC 7232 3.3


def _failed(condition: str) -> OssAnswerError:
    return OssAnswerError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold.",
        fields={"Condition": condition},
    )
