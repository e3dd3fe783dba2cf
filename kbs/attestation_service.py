"""The client of an attestation service that answers evidence with a token, without a KBS.

``POST {url}/attestation`` of Trustee's REST attestation service, as guest-components
``attestation-agent/src/token/coco_as.rs`` uses it. Such a token is bound to no key and to no
challenge: it says that a guest like this existed, and opens no resource.
"""

from __future__ import annotations

import asyncio
from typing import Final, Self

import msgspec

from kbs.errors import KbsProtocolError
from kbs.http_link import Answer, HttpLink
from kbs.payloads import MAX_TOKEN_CHARACTERS, TokenGrant, token_grant
from kbs.peer_json import encode_base64url
from kbs.problem import read_service_refusal
from kbs.retry import Retrier, RetryPolicy
from kbs.tls import KbsTls

ATTESTATION_PATH: Final = "/attestation"
MAX_ERROR_BYTES: Final = 16 * 1024
REQUEST_SECONDS: Final = 15.0
OPERATION_SECONDS: Final = 45.0


class _VerificationRequest(msgspec.Struct):
    tee: str
    evidence: str


class _Evaluation(msgspec.Struct):
    verification_requests: list[_VerificationRequest]
    policy_ids: list[str]


def encode_evaluation(tee: str, evidence: bytes) -> bytes:
    """Return the body: evidence JSON as base64url without padding, default policies."""
    request = _VerificationRequest(tee, encode_base64url(evidence))
    return msgspec.json.encode(_Evaluation([request], []))


def read_answer_token(body: bytes) -> TokenGrant:
    """Read the answer, which is the token itself. Raises :class:`KbsProtocolError`."""
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        raise KbsProtocolError("the answer of the attestation service is not a token") from None
    return token_grant(text.strip())


class AttestationServiceClient:
    """Speaks to one attestation service. ``async with`` closes its connections."""

    def __init__(
        self, url: str, tls: KbsTls | None = None, *, retries: RetryPolicy | None = None
    ) -> None:
        """Raises :class:`~kbs.errors.KbsUrlError` or :class:`~kbs.errors.KbsTlsError`."""
        self._link = HttpLink(url, tls if tls is not None else KbsTls())
        self._retries = retries if retries is not None else RetryPolicy()

    async def token(self, tee: str, evidence: bytes) -> TokenGrant:
        """Exchange evidence JSON for a token, within 45 s.

        Raises :class:`~kbs.errors.KbsError`. Retries repeat the request, never the evidence.
        """
        attempted = f"asking the attestation service {self._link.base_url} for a token"
        body = encode_evaluation(tee, evidence)
        now = asyncio.get_running_loop().time
        deadline = now() + OPERATION_SECONDS

        async def once() -> Answer:
            answer = await self._link.send(
                "POST",
                ATTESTATION_PATH,
                headers={"Content-Type": "application/json"},
                body=body,
                max_bytes=MAX_TOKEN_CHARACTERS + 2,
                max_error_bytes=MAX_ERROR_BYTES,
                seconds=REQUEST_SECONDS,
                deadline=deadline,
                attempted=attempted,
            )
            if answer.status == 200:
                return answer
            raise read_service_refusal(
                answer.status, answer.body, attempted=attempted, retry_after=answer.retry_after
            )

        answer = await Retrier(self._retries, clock=now).run(once, deadline)
        try:
            return read_answer_token(answer.body)
        except KbsProtocolError as error:
            error.during(attempted)
            raise

    async def aclose(self) -> None:
        """Close all connections, for good."""
        await self._link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()
