"""The port through which services leave receipts, and who is asking at the moment."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from receipts.record import Access, Act, Caller, Subject, Verdict, text

GUEST: Final = Caller()  # these services themselves: renewals, credentials as files
_CALLER: Final = ContextVar("receipts_caller", default=GUEST)
Judge = Callable[[Exception], tuple[Verdict, str]]


class ReceiptSink(Protocol):
    """Takes receipts. Both methods return quickly and never wait for a medium by themselves."""

    def note(self, access: Access) -> None:
        """Leave a receipt for what was not given. Raises nothing: what is lost is counted."""
        ...

    async def record(self, access: Access) -> None:
        """Leave a receipt before something is given.

        Raises :class:`~receipts.errors.ReceiptsUnavailableError` where receipts are required and
        this one cannot be written: then nothing may be given.
        """
        ...


class _NoReceipts:
    def note(self, access: Access) -> None:
        pass

    async def record(self, access: Access) -> None:
        pass


NO_RECEIPTS: Final[ReceiptSink] = _NoReceipts()


@contextmanager
def asked_by(caller: Caller) -> Iterator[None]:
    """Have receipts inside, and in tasks started inside, name ``caller``."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


def sealed_sha384(sealed: bytes) -> str:
    """Return the digest for :attr:`Subject.sealed_sha384`.

    Only for what is known to be a sealed text: of a short secret a digest would tell the secret.
    """
    return hashlib.sha384(sealed).hexdigest()


@dataclass(slots=True)
class Note:
    """``subject`` may become more exact while the work goes on."""

    subject: Subject


@asynccontextmanager
async def noting(
    sink: ReceiptSink, act: Act, subject: Subject, judge: Judge
) -> AsyncIterator[Note]:
    """Do ``act`` inside; leave a receipt of how it went, before anybody gets the result.

    ``judge`` tells refused from failed and gives the reason, which holds no content. Raises what
    the work raises, or :class:`~receipts.errors.ReceiptsUnavailableError` if it went well.
    """
    note = Note(subject)
    caller = _CALLER.get()
    try:
        yield note
    except asyncio.CancelledError:
        sink.note(Access(act, "cancelled", caller, note.subject))
        raise
    except Exception as error:  # noted and passed on
        verdict, reason = judge(error)
        sink.note(Access(act, verdict, caller, note.subject, text(reason)))
        raise
    await sink.record(Access(act, "allowed", caller, note.subject))
