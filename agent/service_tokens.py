"""Tokens of an attestation service, ``GetToken("coco_as")``: one evidence in a token's life."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final, Protocol

from agent.attestation import AttestationAgent
from kbs import TokenGrant
from secrecy import Secret

# A token this close to its end may have ended when its reader looks at it.
MARGIN_SECONDS: Final = 30.0


class TokenService(Protocol):
    """The one method of :class:`kbs.AttestationServiceClient` that is needed here."""

    async def token(self, tee: str, evidence: bytes) -> TokenGrant:
        """Exchange evidence for a token. Raises :class:`~kbs.KbsError`."""


class ServiceTokens:
    """Keeps one token while it lasts."""

    def __init__(
        self,
        agent: AttestationAgent,
        service: TokenService,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives unix seconds."""
        self._agent = agent
        self._service = service
        self._clock = clock
        self._current: TokenGrant | None = None
        self._asking = asyncio.Lock()

    async def token(self, refused_id: str | None = None) -> Secret:
        """Return the token. Callers who come while it is being made share it.

        As in the reference, the evidence carries no runtime data, so the token is bound to
        nothing. ``refused_id`` is the hexadecimal SHA-256 of one that is not to be returned again.
        Raises :class:`~kbs.KbsError`, :class:`~agent.errors.AgentError` and
        :class:`~tdx.errors.TdxError`. Cancelling one caller lets the next one ask.
        """
        async with self._asking:
            current = self._usable(refused_id)
            if current is None:
                evidence = await self._agent.evidence(b"")
                current = await self._service.token(self._agent.tee_type(), evidence)
                self._current = current
            return current.token

    def _usable(self, refused_id: str | None) -> TokenGrant | None:
        current = self._current
        if current is None or current.expires_at is None:
            return None
        if refused_id == hashlib.sha256(current.token.reveal()).hexdigest():
            return None
        return current if current.expires_at - MARGIN_SECONDS > self._clock() else None
