"""Handshakes leave receipts: with which key broker, whether it went well, and who caused it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from agent.errors import AgentError, HandshakeUnrecordedError
from kbs import AttestedSession, KbsError
from receipts import ReceiptSink, ReceiptsUnavailableError, Subject, Verdict, noting
from tdx.errors import TdxError

OWN_ERRORS: Final = (AgentError, KbsError, TdxError)


def with_receipts(
    handshake: Callable[[], Awaitable[AttestedSession]], receipts: ReceiptSink, url: str
) -> Callable[[], Awaitable[AttestedSession]]:
    """Return ``handshake`` with the key broker at ``url``, leaving a receipt each time.

    It raises what it raised, and :class:`~agent.errors.HandshakeUnrecordedError` where receipts are
    required and this one cannot be written: there is no session then.
    """

    async def recorded() -> AttestedSession:
        try:
            async with noting(receipts, "handshake", Subject(resource=url), _judge):
                return await handshake()
        except ReceiptsUnavailableError as error:
            raise HandshakeUnrecordedError(error.reason) from error

    return recorded


def _judge(error: Exception) -> tuple[Verdict, str]:
    verdict: Verdict = "refused" if isinstance(error, KbsError) and error.decided else "failed"
    return verdict, str(error) if isinstance(error, OWN_ERRORS) else type(error).__name__
