"""Sessions from the attestation agent, over its socket: ``GetToken("kbs")``.

The agent attests; the hub only borrows what comes out of it. Implements ``kbs.SessionSource``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from cdh.errors import AgentRefusedError, AgentUnreachableError
from kbs import AttestedSession, session_from_aa_json
from lifecycle import UnixAddress
from protos.stubs import AttestationAgentStub
from secrecy.journal import get_logger
from ttrpc import Client, ConnectionLostError, StatusError, TtrpcError

log = get_logger("cdh.agent")

TOKEN_SECONDS: Final = 46.0  # less than a fetch may take, more than the agent's handshake does
CONNECT_SECONDS: Final = 5.0
# A token this close to its end may have ended by the time the broker looks at it.
MARGIN_SECONDS: Final = 5.0
# Tells our agent which key broker the session is for; other agents know one only.
KBS_URL_KEY: Final = "cguest-kbs-url"
# Tells our agent which token the broker called bad; other agents ignore metadata.
REFUSED_TOKEN_KEY: Final = "cguest-refused-token"  # noqa: S105 - a metadata key


class AgentSessionSource:
    """Asks the agent once and shares the answer until it ends or is refused."""

    def __init__(
        self,
        address: UnixAddress,
        *,
        kbs_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives unix seconds. Connects at the first request, not before.

        ``kbs_url`` names one of several key brokers; without it the agent's first one is meant.
        """
        self._kbs_url = kbs_url
        self._path = address.path
        self._clock = clock
        self._client: Client | None = None
        self._current: AttestedSession | None = None
        self._asking = asyncio.Lock()

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        """Return a session. Callers who come while the agent is asked share its answer.

        Raises :class:`~cdh.errors.AgentError`, or ``kbs.AaJsonError`` for a reply that is not of
        the agreed form. Cancelling one caller lets the next one ask.
        """
        async with self._asking:
            current = self._usable(refused)
            if current is None:
                current = self._current = await self._ask(refused)
            return current

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _usable(self, refused: AttestedSession | None) -> AttestedSession | None:
        current = self._current
        if current is None or (refused is not None and current.token_id == refused.token_id):
            return None
        ends = current.expires_at
        return current if ends is None or ends - MARGIN_SECONDS > self._clock() else None

    async def _ask(self, refused: AttestedSession | None) -> AttestedSession:
        metadata = {} if refused is None else {REFUSED_TOKEN_KEY: [refused.token_id]}
        if self._kbs_url is not None:
            metadata[KBS_URL_KEY] = [self._kbs_url]
        try:
            try:
                return await self._get_token(metadata)
            except ConnectionLostError:
                # The agent may have been restarted since the last call; asking again is harmless.
                await self.aclose()
                return await self._get_token(metadata)
        except StatusError as error:
            raise AgentRefusedError(self._path, error.message, refused=error.refused) from error
        except TtrpcError as error:
            await self.aclose()
            raise AgentUnreachableError(self._path, str(error)) from error

    async def _get_token(self, metadata: dict[str, list[str]]) -> AttestedSession:
        if self._client is None:
            self._client = await Client.connect(self._path, timeout_s=CONNECT_SECONDS)
        stub = AttestationAgentStub(self._client)
        reply = await stub.get_token("kbs", timeout_s=TOKEN_SECONDS, metadata=metadata)
        return session_from_aa_json(reply.Token)
