"""Kinds of token, and how a caller gets another one when the KBS has refused the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.errors import KbsUnknownError, TokenKindError
from kbs import SessionSource, session_to_aa_json
from secrecy import Secret

KIND_KBS: Final = "kbs"
KIND_COCO_AS: Final = "coco_as"


class TokenIssuer:
    """Hands out the agent's KBS sessions to processes of this guest."""

    def __init__(
        self, sessions: SessionSource, by_url: Mapping[str, SessionSource] | None = None
    ) -> None:
        """``sessions`` is for who names no key broker, ``by_url`` for who does."""
        self._sessions = sessions
        self._by_url = dict(by_url or {})

    async def token(
        self, kind: str, refused_id: str | None = None, kbs_url: str | None = None
    ) -> Secret:
        """Return ``{"token", "tee_keypair"}`` of a session that is believed to be good.

        ``refused_id`` is the hexadecimal SHA-256 of a token that the KBS called bad; a session
        with another token is returned. ``kbs_url`` names a key broker; only configured ones are
        attested to. Raises :class:`~agent.errors.KbsUnknownError`,
        :class:`~agent.errors.TokenKindError` and :class:`~kbs.KbsError`.
        """
        if kind == KIND_COCO_AS:
            problem = "this build has no tokens of the attestation service"
            raise TokenKindError(kind, problem, hint="ask for a token of type kbs")
        if kind != KIND_KBS:
            raise TokenKindError(kind, "unknown", hint="ask for a token of type kbs")
        sessions = self._sessions if kbs_url is None else self._by_url.get(kbs_url)
        if sessions is None:
            raise KbsUnknownError(kbs_url or "", sorted(self._by_url))
        session = await sessions.session()
        if refused_id is not None and session.token_id == refused_id:
            session = await sessions.session(refused=session)
        return session_to_aa_json(session)
