"""The client of one Key Broker Service: the handshake and resource requests over HTTP.

Puts the I/O-free handshake, the HTTP link, the retries and the meaning of error answers together.
Keeps no session: :class:`kbs.session.SessionKeeper` does. Uses the session cookie within a
handshake only, and the token as bearer afterwards, because a leftover cookie would win over the
token at the KBS and encrypt to the key of an older session. With protocol 0.1.0 the session keeps
the cookie of its own handshake, since not every KBS of that age trusts the tokens it signs.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self, TypeVar

from kbs.errors import (
    AnswerTooLongError,
    AttestationRefusedError,
    EvidenceTimeoutError,
    KbsError,
    KbsProtocolError,
    KbsRefusedError,
    ResourceTooLargeError,
)
from kbs.handshake import Handshake
from kbs.http_link import Answer, HttpLink
from kbs.jwe import MAX_ENVELOPE_CHARACTERS, open_jwe, parse_jwe
from kbs.negotiation import Negotiation, ProtocolVersion, VersionAttempts, name_of
from kbs.payloads import Evidence, InitData
from kbs.problem import read_refusal
from kbs.resource_uri import ResourceUri
from kbs.retry import Retrier, RetryPolicy
from kbs.session import AttestedSession, KbsCookie
from kbs.tee_key import TeeKey, TeeKeyAlgorithm
from kbs.tls import KbsTls
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("kbs")

API_PREFIX: Final = "/kbs/v0"
# trustee kbs/src/attestation/session.rs: a version 4 UUID without dashes.
_SESSION_COOKIE: Final = re.compile(r"kbs-session-id=([0-9a-f]{32})[ \t]*(?:;|$)", re.ASCII)
# Opening a body larger than this takes more than a moment, so a thread does it.
THREAD_ABOVE_BYTES: Final = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KbsLimits:
    """What one answer may cost. Bytes and seconds."""

    challenge_bytes: int = 64 * 1024  # a challenge has about 100 bytes
    token_bytes: int = 128 * 1024  # an EAR token with verbose claims has tens of KiB
    error_bytes: int = 16 * 1024
    # Size of a resource. 4 MiB is the largest message of ttRPC, so a larger one could not be
    # handed to a caller, and twice what a KBS accepts for storing by default.
    resource_bytes: int = 4 * 1024 * 1024
    # One exchange, name lookup and connecting included; an idle KBS needs milliseconds.
    request_seconds: float = 15.0
    # One operation with its retries, unless the caller has a deadline. kata-agent waits 50 s.
    operation_seconds: float = 45.0


class EvidenceSource(Protocol):
    """The attester, as this client needs it."""

    async def tee(self) -> str:
        """Return the TEE's name in the KBS protocol, such as ``tdx``."""

    async def device_evidence(self, device_digest: bytes) -> str:
        """Return the evidence of further devices, each carrying ``device_digest``.

        A JSON text, of an object from a device's name to its evidence. Empty without devices.
        """

    async def evidence(self, runtime_digest: bytes) -> Evidence:
        """Return primary evidence, a JSON object, that carries ``runtime_digest``."""


class KbsClient:
    """Speaks to one KBS. ``async with`` closes its connections.

    Every method raises :class:`~kbs.errors.KbsError`; cancellation is passed on at once and
    leaves nothing behind. ``deadline`` is a time of the running loop's clock; without one,
    ``limits.operation_seconds`` from now.
    """

    def __init__(
        self,
        base_url: str,
        tls: KbsTls | None = None,
        *,
        limits: KbsLimits | None = None,
        retries: RetryPolicy | None = None,
        key_algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.EC_P256,
        init_data: InitData | None = None,
        protocol_version: ProtocolVersion = ProtocolVersion.AUTO,
        proxy: str | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        network_sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """Raises :class:`~kbs.errors.KbsUrlError` or :class:`~kbs.errors.KbsTlsError`."""
        self._link = HttpLink(base_url, tls if tls is not None else KbsTls(), proxy)
        self._limits = limits if limits is not None else KbsLimits()
        self._retries = retries if retries is not None else RetryPolicy()
        self._key_algorithm = key_algorithm
        self._init_data = init_data
        self._negotiation = Negotiation(protocol_version)
        self._rng = rng
        self._sleep = sleep
        self._network_sleep = network_sleep

    @property
    def base_url(self) -> str:
        """The configured URL, without a trailing slash."""
        return self._link.base_url

    @property
    def protocol_version(self) -> str:
        """The version that this KBS has accepted, named as it can be configured.

        Empty before the first handshake.
        """
        settled = self._negotiation.settled
        return "" if settled is None else name_of(settled)

    async def handshake(
        self, evidence: EvidenceSource, *, deadline: float | None = None
    ) -> AttestedSession:
        """Attest this guest with a fresh key and return the session.

        One handshake asks ``evidence`` for one quote; retries repeat requests, never the quote.
        The first one with a KBS finds out its protocol version, unless that is configured; only
        there, and only with a KBS of protocol 0.1.0, may it take a second quote.
        Raises :class:`~kbs.errors.AttestationRefusedError` if the KBS does not accept the guest,
        and whatever ``evidence`` raises.
        """
        until = self._deadline(deadline)
        versions = self._negotiation.attempts()
        while True:
            session = await self._attest(evidence, versions, until)
            if session is not None:
                self._negotiation.settle(versions.wire)
                return session
            log.info("another protocol version is tried", version=name_of(versions.wire))

    async def _attest(
        self, evidence: EvidenceSource, versions: VersionAttempts, until: float
    ) -> AttestedSession | None:
        """Attest with one protocol version. None: refused, and ``versions`` has another one."""
        attempted = f"attesting to {self.base_url}"
        wire = versions.wire
        async with _limited(until, attempted):
            tee = await evidence.tee()
        key = await _fresh_key(wire.key_algorithm(self._key_algorithm))
        handshake = Handshake(tee, key, wire)
        try:
            challenge = await self._post("/auth", handshake.open(), attempted, until)
        except KbsRefusedError as error:
            if versions.after_auth(error):
                return None
            raise
        cookie = _session_cookie(challenge, attempted)
        digest = _attributed(attempted, lambda: handshake.accept_challenge(challenge.body))
        async with _limited(until, attempted):
            if wire.carries_devices:
                devices = await evidence.device_evidence(handshake.device_digest())
                digest = handshake.add_devices(devices)
            primary_evidence = await evidence.evidence(digest)
        attestation = handshake.answer(primary_evidence, self._init_data)
        # Safe to repeat: the KBS answers a second /attest of an attested session with its token.
        try:
            granted = await self._post("/attest", attestation, attempted, until, cookie)
        except AttestationRefusedError as error:
            if versions.after_attest(error):
                return None
            error.challenge, error.attestation = challenge.body, attestation
            raise
        session = _attributed(attempted, lambda: handshake.accept_token(granted.body))
        if wire.uses_cookie:
            session = replace(session, cookie=KbsCookie(self.base_url, cookie))
        return session

    async def resource(
        self, uri: ResourceUri, session: AttestedSession, *, deadline: float | None = None
    ) -> Secret:
        """Fetch a resource with the session's token and open it with the session's key.

        Raises :class:`~kbs.errors.PolicyDeniedError`, :class:`~kbs.errors.ResourceMissingError`,
        :class:`~kbs.errors.TokenRefusedError` (make another session),
        :class:`~kbs.errors.ResourceTooLargeError`, :class:`~kbs.errors.JweError` and others.
        """
        uri.require_resource_path()
        attempted = f"fetching {uri} from {self.base_url}"
        limit = self._limits.resource_bytes
        try:
            answer = await self._exchange(
                "GET",
                f"/{uri.http_target()}",
                headers=self._credentials(session),
                max_bytes=limit * 4 // 3 + MAX_ENVELOPE_CHARACTERS,
                attempted=attempted,
                deadline=self._deadline(deadline),
            )
        except AnswerTooLongError as error:
            raise ResourceTooLargeError(limit, attempted=attempted) from error
        content = await _open_answer(answer.body, session.tee_key, attempted)
        if len(content) > limit:
            raise ResourceTooLargeError(limit, attempted=attempted)
        return content

    async def aclose(self) -> None:
        """Close all connections, for good. Requests in flight fail."""
        await self._link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def _credentials(self, session: AttestedSession) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {session.token.reveal_text()}",
        }
        cookie = session.cookie
        if cookie is not None and cookie.base_url == self.base_url:  # of nobody else's
            headers["Cookie"] = f"kbs-session-id={cookie.session_id}"
        return headers

    async def _post(
        self, path: str, body: bytes, attempted: str, deadline: float, cookie: str | None = None
    ) -> Answer:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if cookie is not None:
            headers["Cookie"] = f"kbs-session-id={cookie}"
        return await self._exchange(
            "POST",
            path,
            headers=headers,
            body=body,
            max_bytes=(
                self._limits.challenge_bytes if cookie is None else self._limits.token_bytes
            ),
            attempted=attempted,
            deadline=deadline,
        )

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        max_bytes: int,
        attempted: str,
        deadline: float,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request until it is answered for good. Returns answers of status 200 only."""
        now = asyncio.get_running_loop().time

        async def once() -> Answer:
            answer = await self._link.send(
                method,
                API_PREFIX + path,
                headers=headers,
                body=body,
                max_bytes=max_bytes,
                max_error_bytes=self._limits.error_bytes,
                seconds=self._limits.request_seconds,
                deadline=deadline,
                attempted=attempted,
            )
            if answer.status == 200:
                return answer
            raise read_refusal(
                answer.status,
                answer.body,
                attempted=attempted,
                client_version=self._negotiation.spoken,
                retry_after=answer.retry_after,
            )

        retrier = Retrier(
            self._retries,
            clock=now,
            rng=self._rng,
            sleep=self._sleep,
            network_sleep=self._network_sleep,
        )
        return await retrier.run(once, deadline)

    def _deadline(self, deadline: float | None) -> float:
        latest = asyncio.get_running_loop().time() + self._limits.operation_seconds
        return latest if deadline is None else min(deadline, latest)


async def _fresh_key(algorithm: TeeKeyAlgorithm) -> TeeKey:
    if algorithm in {TeeKeyAlgorithm.RSA_OAEP_256, TeeKeyAlgorithm.RSA1_5}:
        return await asyncio.to_thread(TeeKey.generate, algorithm)
    return TeeKey.generate(algorithm)


async def _open_answer(body: bytes, key: TeeKey, attempted: str) -> Secret:
    def opened() -> Secret:
        return _attributed(attempted, lambda: open_jwe(parse_jwe(body), key))

    return await asyncio.to_thread(opened) if len(body) > THREAD_ABOVE_BYTES else opened()


@asynccontextmanager
async def _limited(deadline: float, attempted: str) -> AsyncIterator[None]:
    """Hold the attester to the deadline; its own timeouts pass as they are."""
    started = asyncio.get_running_loop().time()
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise EvidenceTimeoutError(deadline - started, attempted=attempted) from error


def _attributed(attempted: str, step: Callable[[], T]) -> T:
    """Run an I/O-free step, which does not know the KBS's address, and name it in its error."""
    try:
        return step()
    except KbsError as error:
        error.during(attempted)
        raise


def _session_cookie(answer: Answer, attempted: str) -> str:
    """Return the session id. By hand: a cookie jar ignores hosts that are IP addresses."""
    found = [match[1] for text in answer.set_cookies if (match := _SESSION_COOKIE.match(text))]
    if len(found) != 1:
        raise KbsProtocolError(
            f"expected one well-formed kbs-session-id cookie, got {len(found)}",
            attempted=attempted,
            hint="see that no proxy before the KBS strips or rewrites cookies",
        )
    return found[0]
