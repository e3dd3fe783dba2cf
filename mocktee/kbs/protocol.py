"""The guest's side of the HTTP interface: ``/auth``, ``/attest`` and GET of resources.

Thin over the parts that parse, judge, remember and encrypt; the order of checks is Trustee's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mocktee.kbs import jwe
from mocktee.kbs.counters import Counters
from mocktee.kbs.encoding import Json, compact_json
from mocktee.kbs.errors import (
    AttestRefusedError,
    AuthRefusedError,
    EncryptionFailedError,
    EvidenceRefusedError,
    PolicyDeniedError,
    PolicyEngineError,
    TokenMissingError,
)
from mocktee.kbs.faults import ExpiredToken, find_fault
from mocktee.kbs.messages import (
    MAX_VERSION,
    Attestation,
    parse_attestation,
    parse_auth,
)
from mocktee.kbs.misbehaviour import FAULTS_OF_REQUEST
from mocktee.kbs.policies import PolicyBook
from mocktee.kbs.resources import ResourceStore
from mocktee.kbs.sessions import COOKIE_NAME, Session, SessionStore
from mocktee.kbs.token import TokenSigner, tee_key_of
from mocktee.kbs.verifier import Verifier, carries_quote

PROTOCOL_VERSION: Final = "0.4.0"
JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class KbsProtocol:
    """The handlers, and the parts they use."""

    sessions: SessionStore
    verifier: Verifier
    signer: TokenSigner
    policies: PolicyBook
    resources: ResourceStore
    counters: Counters

    async def auth(self, request: web.Request) -> web.Response:
        """POST /kbs/v0/auth: open a session and hand out its nonce."""
        try:
            session = self._open_session(await request.read())
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
                request.cookies.get(COOKIE_NAME), await request.read(), expired=expired
            )
        except AttestRefusedError:
            self.counters.attest_refused += 1
            raise
        return _json({"token": session.token}, session)

    async def resource(self, request: web.Request, segments: list[str]) -> web.Response:
        """GET /kbs/v0/resource/...: token, policy, storage and encryption, in this order."""
        self.counters.resource_requests += 1
        claims = self.signer.verify(self._token_of(request))
        query = dict(request.query)
        if not self.policies.allows(segments, query, claims):
            raise PolicyDeniedError(
                f"data.policy.allow is not true for {'/'.join(segments)[:128]} "
                f"and TEE status {_status_of(claims)}"
            )
        content = self.resources.get(segments)
        key = tee_key_of(claims)
        try:
            document = jwe.encrypt(key, content)
        except ValueError as error:
            raise EncryptionFailedError(str(error)) from error
        self.counters.resources_served += 1
        return _json(document)

    def _open_session(self, body: bytes) -> Session:
        try:
            message = parse_auth(body)
        except ValueError as error:
            raise AuthRefusedError("deserialize Request") from error
        # Build metadata takes no part in the comparison (Semantic Versioning 2.0.0, 10).
        if message.version.partition("+")[0] != PROTOCOL_VERSION:
            raise AuthRefusedError(
                f"KBS Client Protocol Version Mismatch: expect ={PROTOCOL_VERSION} "
                f"while the request is {message.version[:MAX_VERSION]}"
            )
        return self.sessions.open(message.tee)

    def _attest(self, session_id: str | None, body: bytes, *, expired: bool) -> Session:
        if session_id is None:
            raise AttestRefusedError("cookie not found")
        try:
            attestation = parse_attestation(body)
        except ValueError as error:
            raise AttestRefusedError(f"deserialize Attestation: {error}") from error
        session = self.sessions.find(session_id)
        if session is None:
            raise AttestRefusedError("session not found, or expired")
        if session.token is not None:
            self.counters.attest_repeated += 1  # evidence is not looked at again
            return session
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
        except EvidenceRefusedError as error:
            raise AttestRefusedError(error.reason) from error
        except PolicyEngineError as error:
            raise AttestRefusedError(f"attestation policy: {error.detail}") from error
        return self.signer.issue(verdict, trust_vector, expired=expired)

    def _token_of(self, request: web.Request) -> str:
        """Return the token of the session, else the bearer token."""
        session = self.sessions.find(request.cookies.get(COOKIE_NAME))
        if session is not None and session.token is not None:
            return session.token
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissingError
        return token.strip()


def _status_of(claims: dict[str, Json]) -> str:
    submods = claims.get("submods")
    cpu = submods.get("cpu0") if isinstance(submods, dict) else None
    return str(cpu.get("ear.status")) if isinstance(cpu, dict) else "none"


def _json(document: Json, session: Session | None = None) -> web.Response:
    response = web.Response(body=compact_json(document), content_type=JSON_TYPE)
    if session is not None:
        response.headers["Set-Cookie"] = session.cookie()
    return response
