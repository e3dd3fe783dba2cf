"""From errors of the hub to what its callers are told.

Code and beginning of every text are those of the reference hub, followed by our cause on the same
line: ``[CDH] [ERROR]: Get Resource failed: <cause>``. Causes never hold secrets; what is not an
error of ours, ``kbs`` or ``keywrap`` shows as its type.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cdh.errors import CdhError, MountNotFoundError, bounded
from cdh.refusal import is_refusal
from kbs import KbsError, ResourceUriError
from keywrap import KeywrapError
from secrecy.journal import get_logger
from ttrpc import Code, StatusError

log = get_logger("cdh")

PREFIX: Final = "[CDH] [ERROR]: "
MAX_CAUSE: Final = 700  # characters


def cause_line(error: Exception) -> str:
    """Return one bounded line that says why, for errors whose messages are made to be shown."""
    if isinstance(error, CdhError | KbsError | KeywrapError):
        return bounded(str(error), MAX_CAUSE)
    return type(error).__name__


def noted_cause(error: Exception) -> str:
    """Return that line for logs and receipts, without what may be anybody's secret."""
    return error.noted if isinstance(error, ResourceUriError) else cause_line(error)


@asynccontextmanager
async def as_status(outer: str, *, consequence: str = "") -> AsyncIterator[None]:
    """Turn what goes wrong inside into the reference's answer and a log line.

    With a ``consequence``, of which nobody else may tell, the line is an error.
    """
    try:
        yield
    except StatusError:
        raise
    except MountNotFoundError as error:
        raise StatusError(Code.NOT_FOUND, f"{PREFIX}{outer}: {cause_line(error)}") from error
    except (CdhError, KbsError, KeywrapError) as error:
        say = log.bind(consequence=consequence).error if consequence else log.warning
        say("request failed", operation=outer, cause=noted_cause(error))
        raise StatusError(
            Code.INTERNAL, f"{PREFIX}{outer}: {cause_line(error)}", refused=is_refusal(error)
        ) from error
