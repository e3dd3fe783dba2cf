"""An attested session, and the keeper that makes one serve everybody.

A handshake costs a quote, which a stock kernel takes a second for, so there is at most one at a
time and its result is shared: by all who wait for it, and by all who come later while it lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from kbs.errors import TokenRefusedError
from kbs.failure import HandshakeFailure, failure_of
from kbs.flight import Flight
from kbs.hold_off import HoldOff
from kbs.tee_key import TeeKey
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("kbs")

# Renewal falls at 0.8 +- 0.1 of a token's life, the rule of Google's Confidential Space launcher:
# early enough to survive a failure, spread so that guests started together do not renew together.
RENEW_AT: Final = 0.8
RENEW_SPREAD: Final = 0.1
# Waits between failed background renewals, in seconds, doubled each time, +-50 %.
FIRST_RENEWAL_PAUSE: Final = 1.0
LONGEST_RENEWAL_PAUSE: Final = 60.0
# However short a token's life is said to be, the background does not attest more often than this.
SHORTEST_RENEWAL: Final = 1.0
# The background task looks at the clock at least this often, since wall clocks jump (a VM that
# was paused, time synchronisation) while a sleep does not notice.
LONGEST_SLEEP: Final = 60.0


@dataclass(frozen=True, slots=True)
class KbsCookie:
    """The session cookie of a handshake, for the KBS at ``base_url`` and for no other."""

    base_url: str
    session_id: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class AttestedSession:
    """A token and the key it is bound to; one is of no use without the other.

    ``expires_at`` is unix seconds, from the token's unverified ``exp``; ``None`` if it has none.
    ``cookie`` is there with a KBS of protocol 0.1.0 only, and never leaves this process.
    """

    token: Secret
    tee_key: TeeKey = field(repr=False)
    expires_at: float | None
    cookie: KbsCookie | None = field(default=None, repr=False)

    @property
    def token_id(self) -> str:
        """Hexadecimal SHA-256 of the token: names the session without giving it away."""
        return hashlib.sha256(self.token.reveal()).hexdigest()


class SessionSource(Protocol):
    """Somebody who has an attested session to give."""

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        """Return a session that is believed to be good.

        ``refused`` is one the KBS called bad: another one is returned, made if need be.
        """


class SessionState(StrEnum):
    """Where a keeper stands."""

    NONE = "none"
    ATTESTING = "attesting"
    ATTESTED = "attested"
    FAILED = "failed"


class SessionKeeper:
    """Keeps one session and makes it anew when it ends, is refused, or is about to end."""

    def __init__(
        self,
        handshake: Callable[[], Awaitable[AttestedSession]],
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        hold_off: HoldOff | None = None,
        start_spread_seconds: float = 0.0,
    ) -> None:
        """``clock`` gives unix seconds. Makes no handshake yet: the first caller does.

        ``hold_off`` paces handshakes after failures; without it every caller may cause one. The
        very first handshake waits a random part of ``start_spread_seconds``, so that guests
        started together do not ask together.
        """
        self._handshake = handshake
        self._clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._sleep = sleep
        self._current: AttestedSession | None = None
        self._flight: Flight[AttestedSession] | None = None
        self._renew_at: float | None = None
        self._handshakes = 0
        self._failed_handshakes = 0
        self._last_failure: HandshakeFailure | None = None
        self._changed = asyncio.Event()
        self._hold_off = hold_off
        self._start_spread = start_spread_seconds
        self._replacing_refused = False

    @property
    def current(self) -> AttestedSession | None:
        """The session held, if its token has not ended."""
        session = self._current
        if session is not None and not self._has_ended(session):
            return session
        return None

    @property
    def state(self) -> SessionState:
        """``attested`` while a session is good, even during its renewal."""
        if self.current is not None:
            return SessionState.ATTESTED
        if self._attesting:
            return SessionState.ATTESTING
        return SessionState.NONE if self._last_failure is None else SessionState.FAILED

    @property
    def handshakes(self) -> int:
        """How many handshakes have succeeded."""
        return self._handshakes

    @property
    def failed_handshakes(self) -> int:
        """How many handshakes have failed; a request during a hold is none."""
        return self._failed_handshakes

    @property
    def hold_seconds(self) -> float:
        """Seconds until failures are waited out; 0 if nothing is."""
        return 0.0 if self._hold_off is None else self._hold_off.remaining

    @property
    def last_error(self) -> str:
        """The message of the last handshake if it failed, else empty."""
        return "" if self._last_failure is None else self._last_failure.message

    @property
    def last_failure(self) -> HandshakeFailure | None:
        """The record of the last handshake if it failed."""
        return self._last_failure

    @property
    def expires_at(self) -> float | None:
        """When the current session's token ends, unix seconds."""
        session = self.current
        return None if session is None else session.expires_at

    @property
    def renew_at(self) -> float | None:
        """When :meth:`keep_fresh` renews the current session, unix seconds."""
        return None if self.current is None else self._renew_at

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        """Return the current session, or the one that a handshake shared by all waiters makes.

        With ``refused``, the session that the KBS called bad, a handshake is made only if that
        one is still the current one: of many callers refused with the same session, the first
        renews and the others get its result. Raises what the handshake raises, and
        :class:`~kbs.errors.HandshakeHeldError` while failed ones are being waited out. A
        cancelled caller leaves the handshake to the others; the last one takes it along.
        """
        session = self.current
        if session is not None and refused is not None and session.token_id == refused.token_id:
            # Whatever its date says, it is of no use to anybody any more.
            self._current = session = None
            self._replacing_refused = True
        if session is not None:
            return session
        if self._hold_off is not None and not self._attesting:
            self._hold_off.require_open_way()
        return await self._attest()

    async def renew(self) -> AttestedSession:
        """Make a new session because somebody asks on purpose, without waiting out failures.

        A handshake already in flight serves. If it fails the present session stays in use, and
        what the handshake raised is raised.
        """
        self.release_hold(also_refusals=True)
        return await self._attest()

    def release_hold(self, *, also_refusals: bool) -> None:
        """Let the next caller try at once: the network changed, or somebody asks on purpose."""
        if self._hold_off is not None:
            self._hold_off.release(also_refusals=also_refusals)

    @property
    def _attesting(self) -> bool:
        return self._flight is not None and self._flight.joinable

    async def keep_fresh(self) -> None:
        """Renew the current session before it ends. Runs until cancelled.

        A failed renewal leaves the session in use and is tried again at growing intervals for as
        long as it lives; afterwards the next caller of :meth:`session` starts over.
        """
        failures = 0
        while True:
            await self._wait_until_due()
            try:
                await self._attest()
                failures = 0
            except Exception as error:  # noqa: BLE001 - the attester has errors of its own
                pause = min(FIRST_RENEWAL_PAUSE * 2**failures, LONGEST_RENEWAL_PAUSE)
                failures = min(failures + 1, 16)
                self._renew_at = self._clock() + pause * self._rng.uniform(0.5, 1.5)
                log.warning("session renewal failed", error=str(error), retry_at=self._renew_at)

    async def _wait_until_due(self) -> None:
        while True:
            self._changed.clear()
            due = self.renew_at
            if due is None:
                await self._changed.wait()
                continue
            remaining = due - self._clock()
            if remaining <= 0:
                return
            await self._sleep_or_change(min(remaining, LONGEST_SLEEP))

    async def _sleep_or_change(self, seconds: float) -> None:
        """Sleep, but no longer than until another session arrives."""
        both = {
            asyncio.ensure_future(self._sleep(seconds)),
            asyncio.ensure_future(self._changed.wait()),
        }
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in both:
                waiting.cancel()
            await asyncio.wait(both)

    async def _attest(self) -> AttestedSession:
        if self._flight is None or not self._flight.joinable:
            self._flight = Flight(self._run_handshake)
        return await self._flight.wait()

    async def _run_handshake(self) -> AttestedSession:
        spread, self._start_spread = self._start_spread, 0.0
        try:
            if spread > 0:
                await self._sleep(self._rng.uniform(0, spread))
            session = await self._handshake()
        except Exception as error:
            # Also what is no KbsError: evidence comes from the attester, with errors of its own.
            self._last_failure = failure_of(error)
            self._failed_handshakes += 1
            if self._hold_off is not None:
                self._hold_off.failed(error)
            raise
        now = self._clock()
        self._current = session
        self._last_failure = None
        self._handshakes += 1
        self._renew_at = self._renewal_time(session, now)
        self._note_success()
        self._changed.set()
        log.info("session attested", expires_at=session.expires_at, renew_at=self._renew_at)
        return session

    def _note_success(self) -> None:
        """End the hold; but a KBS that called a token bad may do so again, and is paced."""
        replaced, self._replacing_refused = self._replacing_refused, False
        if self._hold_off is None:
            return
        if replaced:
            self._hold_off.failed(
                TokenRefusedError(401, "TokenVerifierError", "", attempted="using a session")
            )
        else:
            self._hold_off.succeeded()

    def _renewal_time(self, session: AttestedSession, now: float) -> float | None:
        if session.expires_at is None:
            return None
        life = session.expires_at - now
        if life <= 0:
            log.warning(
                "new token has already ended by this guest's clock",
                expires_at=session.expires_at,
                now=now,
                hint="set the guest's clock; until then every request attests anew",
            )
            return None
        share = RENEW_AT + self._rng.uniform(-RENEW_SPREAD, RENEW_SPREAD)
        return now + max(life * share, SHORTEST_RENEWAL)

    def _has_ended(self, session: AttestedSession) -> bool:
        return session.expires_at is not None and session.expires_at <= self._clock()
