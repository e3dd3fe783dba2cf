"""Kinds of token, and how a caller gets another one when the first was refused."""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import KbsUnknownError, TokenKindError
from agent.service_tokens import ServiceTokens
from kbs import SessionSource, session_to_aa_json
from secrecy import Secret


class TokenIssuer:
    """Hands out what this agent has attested for to processes of this guest."""

    def __init__(
        self,
        sessions: SessionSource,
        by_url: Mapping[str, SessionSource] | None = None,
        service: ServiceTokens | None = None,
    ) -> None:
        """``sessions`` is for who names no key broker, ``by_url`` for who does.

        ``service`` is the configured attestation service, if there is one.
        """
        self._sessions = sessions
        self._by_url = dict(by_url or {})
        self._service = service

    async def token(
        self, kind: str, refused_id: str | None = None, kbs_url: str | None = None
    ) -> Secret:
        """Return a token that is believed to be good.

        For ``kbs`` it is ``{"token", "tee_keypair"}`` of a session, for ``coco_as`` the token's
        text. ``refused_id`` is the hexadecimal SHA-256 of a token that was called bad; another
        one is returned. ``kbs_url`` names a key broker; only configured ones are attested to.
        Raises :class:`~agent.errors.KbsUnknownError`, :class:`~agent.errors.TokenKindError`,
        :class:`~kbs.KbsError` and, for ``coco_as``, what evidence raises.
        """
        match kind:
            case "kbs":
                return await self._session_json(refused_id, kbs_url)
            case "coco_as" if self._service is not None:
                return await self._service.token(refused_id)
            case "coco_as":
                hint = "set token_configs.coco_as.url, or ask for a token of type kbs"
                raise TokenKindError(kind, "no attestation service is configured", hint=hint)
            case _:
                raise TokenKindError(kind, "unknown", hint="ask for a token of type kbs")

    async def _session_json(self, refused_id: str | None, kbs_url: str | None) -> Secret:
        sessions = self._sessions if kbs_url is None else self._by_url.get(kbs_url)
        if sessions is None:
            raise KbsUnknownError(kbs_url or "", sorted(self._by_url))
        session = await sessions.session()
        if refused_id is not None and session.token_id == refused_id:
            session = await sessions.session(refused=session)
        return session_to_aa_json(session)
