"""Tells when a resource changes: rotation, withdrawal, and that its key broker cannot be asked.

The KBS protocol has no notifications, so this asks again and again. Contents are compared by a
digest under a key of this process: nothing that is kept or told says what they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from kbs.resource_uri import ResourceUri
from kbs.several import ResourceGetter, is_refused


class WatchState(StrEnum):
    """What was found out about a resource."""

    PRESENT = "present"  # for the first time, or again
    CHANGED = "changed"
    REFUSED = "refused"  # by policy, or there is none any more
    AWAY = "away"  # nobody could be asked; it says nothing about the resource


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``at`` is unix seconds; ``reason`` says why for ``REFUSED`` and ``AWAY``."""

    state: WatchState
    at: float
    reason: str = ""


class ResourceWatch:
    """Watches one resource, asking every ``interval`` seconds, +-10 % so that guests spread."""

    def __init__(
        self,
        source: ResourceGetter,
        uri: ResourceUri,
        interval: float,
        *,
        refused: Callable[[Exception], bool] = is_refused,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``refused`` tells a verdict of the KBS from a failure on the way."""
        if interval <= 0:
            raise ValueError("an interval is positive")
        self._source = source
        self._uri = uri
        self._interval = interval
        self._refused = refused
        self._clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._sleep = sleep
        self._key = secrets.token_bytes(32)
        self._digest: bytes | None = None
        self._state: WatchState | None = None

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """Yield what is new, beginning with the present state. Never ends by itself.

        Closing the iterator or cancelling its task ends it; nothing runs in between.
        """
        while True:
            event = await self._look()
            if event is not None:
                yield event
            await self._sleep(self._interval * self._rng.uniform(0.9, 1.1))

    async def _look(self) -> WatchEvent | None:
        try:
            content = await self._source.get(self._uri)
        except Exception as error:  # noqa: BLE001 - the source decides what can go wrong
            refused = self._refused(error)
            return self._enter(WatchState.REFUSED if refused else WatchState.AWAY, str(error))
        digest = hmac.new(self._key, content.reveal(), hashlib.sha256).digest()
        content.wipe()
        before, self._digest = self._digest, digest
        if before is not None and not hmac.compare_digest(before, digest):
            self._state = WatchState.PRESENT
            return WatchEvent(WatchState.CHANGED, self._clock())
        return self._enter(WatchState.PRESENT, "")

    def _enter(self, state: WatchState, reason: str) -> WatchEvent | None:
        if state is self._state:
            return None
        self._state = state
        return WatchEvent(state, self._clock(), reason)
