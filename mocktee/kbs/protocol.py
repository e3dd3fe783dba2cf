"""The guest's side of the HTTP interface: ``/auth``, ``/attest`` and GET of resources.

Thin over the parts that parse, judge, remember and encrypt; the order of checks is Trustee's. What
differs between server generations comes from :mod:`mocktee.kbs.era`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from mocktee.kbs import jwe
from mocktee.kbs.counters import Counters
from mocktee.kbs.encoding import Json, compact_json
from mocktee.kbs.era import Era, Wording
from mocktee.kbs.errors import (
    AttestRefusedError,
    AuthRefusedError,
    CookieExpiredError,
    CookieMissingError,
    CookieUnknownError,
    EncryptionFailedError,
    EvidenceRefusedError,
    FrameworkRefusedError,
    HandlerPanicError,
    PluginFailedError,
    PolicyDeniedError,
    PolicyEngineError,
    TokenMissingError,
    VersionRefusedError,
)
from mocktee.kbs.faults import ExpiredToken, find_fault
from mocktee.kbs.messages import (
    MAX_VERSION,
    Attestation,
    MessageForm,
    parse_attestation,
    parse_auth,
)
from mocktee.kbs.misbehaviour import FAULTS_OF_REQUEST
from mocktee.kbs.policies import PolicyBook
from mocktee.kbs.resources import ResourceStore
from mocktee.kbs.sessions import COOKIE_NAME, Session, SessionStore
from mocktee.kbs.token import TokenIssuer
from mocktee.kbs.trust import TokenVerifier, tee_key_of
from mocktee.kbs.verifier import Verifier, carries_quote

JSON_TYPE: Final = "application/json"
_VERSION: Final = re.compile(
    r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
)


@dataclass(frozen=True, slots=True)
class KbsProtocol:
    """The handlers, and the parts they use."""

    era: Era
    sessions: SessionStore
    verifier: Verifier
    issuer: TokenIssuer
    tokens: TokenVerifier
    policies: PolicyBook
    resources: ResourceStore
    counters: Counters

    async def auth(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/auth: open a session and hand out its nonce."""
        try:
            session = self._open_session(await self._body(request))
        except AuthRefusedError:
            self.counters.auth_refused += 1
            raise
        self.counters.auth += 1
        challenge: Json = {"nonce": session.nonce, "extra-params": ""}
        return _json(challenge, session)

    async def attest(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/attest: judge evidence and issue the session's token."""
        expired = find_fault(request[FAULTS_OF_REQUEST], ExpiredToken) is not None
        try:
            session = self._attest(
                request.cookies.get(COOKIE_NAME), await self._body(request), expired=expired
            )
        except AttestRefusedError:
            self.counters.attest_refused += 1
            raise
        return _json({"token": session.token}, session)

    async def resource(self, request: web.Request, segments: list[str]) -> web.Response:
        """GET /kbs/v0/resource/...: token, policy, storage and encryption, in this order."""
        segments = self.era.routed(segments)
        self.counters.resource_requests += 1
        claims = self._permitted_claims(request, segments)
        content = self.resources.get(self.era.stored(segments))
        key = tee_key_of(claims, self.era.submodule)
        try:
            document = jwe.encrypt(key, content, self.era.tee_keys, legacy=self.era.legacy_jwe)
        except ValueError as error:
            raise EncryptionFailedError(str(error)) from error
        self.counters.resources_served += 1
        return _json(document)

    async def unsupported(self, request: web.Request, segments: list[str]) -> web.Response:
        """Any other method on a resource: the plugin gets it after token and policy are judged."""
        self._permitted_claims(request, segments)
        raise PluginFailedError(f"method {request.method} is not supported")

    def _permitted_claims(self, request: web.Request, segments: list[str]) -> dict[str, Json]:
        claims = self.tokens.verify(self._token_of(request))
        if not self.policies.allows(segments, dict(request.query), claims):
            raise PolicyDeniedError(
                f"data.policy.allow is not true for {'/'.join(segments)[:128]} "
                f"and TEE status {_status_of(claims, self.era.submodule)}"
            )
        return claims

    async def _body(self, request: web.Request) -> bytes:
        if self.era.framework_parses and request.content_type != JSON_TYPE:
            raise FrameworkRefusedError(400, "Content type error")
        return await request.read()

    def _malformed(self, error: ValueError) -> FrameworkRefusedError | None:
        if not self.era.framework_parses:
            return None
        return FrameworkRefusedError(400, f"Json deserialize error: {error}")

    def _open_session(self, body: bytes) -> Session:
        try:
            message = parse_auth(body, self.era.form)
        except ValueError as error:
            raise self._malformed(error) or AuthRefusedError("deserialize Request") from error
        self._check_version(message.version[:MAX_VERSION])
        return self.sessions.open(message.tee)

    def _check_version(self, text: str) -> None:
        parts = _VERSION.fullmatch(text)
        if parts is None:
            if self.era.wording is Wording.PER_CALL and not self.era.lower_accepted:
                raise HandlerPanicError(f"version {text!r} is unwrapped by the handler")
            per_call = self.era.wording is Wording.PER_CALL
            raise AuthRefusedError(
                f"unexpected character {text[:1]!r} while parsing major version number"
                if per_call
                else "failed to parse KBS version"
            )
        got = tuple(int(parts[number]) for number in (1, 2, 3))
        own = tuple(int(number) for number in self.era.protocol.split("."))
        # Build metadata takes no part in the comparison (Semantic Versioning 2.0.0, 10); a
        # pre-release matches no requirement that does not name one.
        if parts[4] or (got > own if self.era.lower_accepted else got != own):
            raise VersionRefusedError(self.era.requirement, text)

    def _attest(self, session_id: str | None, body: bytes, *, expired: bool) -> Session:
        if session_id is None:
            raise CookieMissingError
        try:
            attestation = parse_attestation(body, self.era.form, self.era.binding)
        except ValueError as error:
            raise self._malformed(error) or AttestRefusedError(
                f"deserialize Attestation: {error}"
            ) from error
        if self.sessions.expired(session_id):
            raise CookieExpiredError
        session = self.sessions.find(session_id)
        if session is None:
            raise CookieUnknownError
        if session.token is not None and not self.era.attests_again:
            self.counters.attest_repeated += 1  # evidence is not looked at again
            return session
        if self.era.form is not MessageForm.SECTIONS:
            attestation = attestation.answering(session.nonce)
        self._check_nonce(attestation, session)
        session.token = self._token_for(attestation, session, expired=expired)
        self.counters.attest_accepted += 1
        return session

    def _check_nonce(self, attestation: Attestation, session: Session) -> None:
        if attestation.nonce == session.nonce:
            return
        replayed = self.sessions.issued_elsewhere(attestation.nonce, session)
        raise AttestRefusedError(
            "nonce does not match this session"
            + (": it was issued to another one and is replayed" if replayed else "")
        )

    def _token_for(self, attestation: Attestation, session: Session, *, expired: bool) -> str:
        if carries_quote(attestation.primary_evidence):
            self.counters.quotes_seen += 1
        try:
            verdict = self.verifier.verify(session.tee, attestation)
            trust_vector = self.policies.appraise({verdict.tee: verdict.claims})
            devices = tuple(
                replace(d, trust_vector=self.policies.appraise({d.tee: d.claims}))
                for d in verdict.devices
            )
        except EvidenceRefusedError as error:
            raise AttestRefusedError(error.reason) from error
        except PolicyEngineError as error:
            raise AttestRefusedError(f"attestation policy: {error.detail}") from error
        verdict = replace(verdict, devices=devices)
        return self.issuer.issue(verdict, trust_vector, expired=expired)

    def _token_of(self, request: web.Request) -> str:
        """Return the token of the session, else the bearer token."""
        session = self.sessions.find(request.cookies.get(COOKIE_NAME))
        if session is not None and session.token is not None:
            return session.token
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissingError
        return token.strip()


def _status_of(claims: dict[str, Json], submodule: str) -> str:
    submods = claims.get("submods")
    cpu = submods.get(submodule) if isinstance(submods, dict) else None
    return str(cpu.get("ear.status")) if isinstance(cpu, dict) else "none"


def _json(document: Json, session: Session | None = None) -> web.Response:
    response = web.Response(body=compact_json(document), content_type=JSON_TYPE)
    if session is not None:
        response.headers["Set-Cookie"] = session.cookie()
    return response
