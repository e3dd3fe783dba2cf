"""Kinds of token, and how a caller gets another one when the KBS has refused the first."""

from __future__ import annotations

from typing import Final

from agent.errors import TokenKindError
from kbs import SessionSource, session_to_aa_json
from secrecy import Secret

KIND_KBS: Final = "kbs"
KIND_COCO_AS: Final = "coco_as"


class TokenIssuer:
    """Hands out the agent's KBS session to processes of this guest."""

    def __init__(self, sessions: SessionSource) -> None:
        self._sessions = sessions

    async def token(self, kind: str, refused_id: str | None = None) -> Secret:
        """Return ``{"token", "tee_keypair"}`` of a session that is believed to be good.

        ``refused_id`` is the hexadecimal SHA-256 of a token that the KBS called bad; a session
        with another token is returned. Raises :class:`~agent.errors.TokenKindError` and
        :class:`~kbs.KbsError`.
        """
        if kind == KIND_COCO_AS:
            problem = "this build has no tokens of the attestation service"
            raise TokenKindError(kind, problem, hint="ask for a token of type kbs")
        if kind != KIND_KBS:
            raise TokenKindError(kind, "unknown", hint="ask for a token of type kbs")
        session = await self._sessions.session()
        if refused_id is not None and session.token_id == refused_id:
            session = await self._sessions.session(refused=session)
        return session_to_aa_json(session)
