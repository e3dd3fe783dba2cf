"""Sessions of the RCAR handshake: bounded in number and in life (KBS protocol 0.4.0)."""

from __future__ import annotations

import email.utils
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mocktee.kbs.encoding import b64_encode
from mocktee.kbs.errors import AuthRefusedError

COOKIE_NAME: Final = "kbs-session-id"
MAX_SESSIONS: Final = 1024
NONCE_BYTES: Final = 32


@dataclass(slots=True)
class Session:
    """One session. It is attested once ``token`` is there."""

    id: str
    nonce: str
    tee: str
    expires_at: float
    token: str | None = None

    def cookie(self) -> str:
        """Return the value of the Set-Cookie header: ``Expires`` is the only attribute."""
        expires = email.utils.formatdate(self.expires_at, usegmt=True)
        return f"{COOKIE_NAME}={self.id}; Expires={expires}"


class SessionStore:
    """All live sessions. An expired one is gone, whoever asks for it."""

    def __init__(self, *, life_seconds: float, clock: Callable[[], float]) -> None:
        self._life_seconds = life_seconds
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, tee: str) -> Session:
        """Start a session with a fresh nonce. Raises :class:`AuthRefusedError` when full."""
        self._drop_expired()
        if len(self._sessions) >= MAX_SESSIONS:
            raise AuthRefusedError(f"{MAX_SESSIONS} sessions are open, wait for one to expire")
        session = Session(
            id=uuid.uuid4().hex,
            nonce=b64_encode(secrets.token_bytes(NONCE_BYTES)),
            tee=tee,
            expires_at=self._clock() + self._life_seconds,
        )
        self._sessions[session.id] = session
        return session

    def find(self, session_id: str | None) -> Session | None:
        """Return a live session, or ``None``."""
        session = self._sessions.get(session_id or "")
        if session is None or session.expires_at > self._clock():
            return session
        del self._sessions[session.id]
        return None

    def expired(self, session_id: str) -> bool:
        """Return whether the session is known and over; ask before :meth:`find` forgets it."""
        session = self._sessions.get(session_id)
        return session is not None and session.expires_at <= self._clock()

    def issued_elsewhere(self, nonce: str, session: Session) -> bool:
        """Return whether ``nonce`` belongs to another live session, that is, was replayed."""
        return any(
            other.nonce == nonce for other in self._sessions.values() if other is not session
        )

    def _drop_expired(self) -> None:
        now = self._clock()
        self._sessions = {k: s for k, s in self._sessions.items() if s.expires_at > now}
