"""Resources by URI, with sessions looked after: what the data hub asks.

Merges equal requests in flight, renews a refused session exactly once, and keeps contents for a
short time only if told to.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from kbs.errors import SessionTimeoutError, TokenRefusedError
from kbs.flight import Flight
from kbs.resource_uri import ResourceUri
from kbs.secret_cache import SecretCache
from kbs.session import AttestedSession, SessionSource
from secrecy import Secret

# Seconds for one resource, its session included. Deadlines nest, so that the cause reaches the one
# who waits: kata-agent 50, this 47, the hub's call to the agent 46, the agent's handshake 45, its
# quote 40, one request to the KBS 15.
FETCH_SECONDS: Final = 47.0


class ResourceClient(Protocol):
    """The one method of :class:`kbs.client.KbsClient` that is needed here."""

    async def resource(
        self, uri: ResourceUri, session: AttestedSession, *, deadline: float | None = None
    ) -> Secret:
        """Fetch one resource with one session, until ``deadline`` (loop time)."""


class ResourceFetcher:
    """Fetches resources. Every caller gets a ``Secret`` of its own, to wipe when it likes."""

    def __init__(
        self,
        client: ResourceClient,
        sessions: SessionSource,
        *,
        cache_seconds: float = 0,
        cache: SecretCache | None = None,
        fetch_seconds: float = FETCH_SECONDS,
    ) -> None:
        """With ``cache_seconds`` 0, the default, every :meth:`get` asks the KBS.

        A cached content is given out until its time is over even if the KBS would now refuse it:
        choose the time accordingly.
        """
        self._client = client
        self._sessions = sessions
        self._flights: dict[ResourceUri, Flight[Secret]] = {}
        self._fetch_seconds = fetch_seconds
        self._cache = cache if cache is not None else SecretCache(cache_seconds)

    async def get(self, uri: ResourceUri) -> Secret:
        """Return the resource. Raises :class:`~kbs.errors.KbsError`.

        Callers that ask for the same resource at the same time share one request; a cancelled one
        leaves it to the others.
        """
        cached = self._cache.get(uri)
        if cached is not None:
            return cached
        flight = self._flights.get(uri)
        if flight is None or not flight.joinable:
            flight = self._flights[uri] = Flight(lambda: self._fetch(uri))
        try:
            shared = await flight.wait()
            own = Secret(shared.reveal())
            if flight.waiters == 0:
                shared.wipe()  # the last one to have its copy
            return own
        finally:
            if not flight.joinable and self._flights.get(uri) is flight:
                del self._flights[uri]

    def close(self) -> None:
        """Wipe what is cached."""
        self._cache.clear()

    async def _fetch(self, uri: ResourceUri) -> Secret:
        deadline = asyncio.get_running_loop().time() + self._fetch_seconds
        session = await self._session(uri, deadline)
        try:
            content = await self._client.resource(uri, session, deadline=deadline)
        except TokenRefusedError:
            # Once: a token that was made a moment ago and is refused again will not improve.
            session = await self._session(uri, deadline, refused=session)
            content = await self._client.resource(uri, session, deadline=deadline)
        self._cache.put(uri, content)
        return content

    async def _session(
        self, uri: ResourceUri, deadline: float, refused: AttestedSession | None = None
    ) -> AttestedSession:
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await self._sessions.session(refused=refused)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise SessionTimeoutError(self._fetch_seconds, attempted=f"fetching {uri}") from error
