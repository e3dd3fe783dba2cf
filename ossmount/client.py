"""One OSS call: signed, sent, answered or refused, repeated where that is safe, within a deadline.

Owns the HTTP session and everything about it: no proxies from the environment, no redirects, no
compression, no headers after signing, TLS against given or system roots. Foreign errors become
:mod:`ossmount.errors` here, while the body streams as well.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp

from ossmount.documents import parse_error_code
from ossmount.endpoint import Endpoint
from ossmount.errors import (
    LaunchError,
    OssAnswerError,
    OssError,
    OssRefusedError,
    OssTimeoutError,
    OssTlsError,
    OssUnreachableError,
)
from ossmount.retry import RetryPolicy
from ossmount.signing import Signer
from secrecy.journal import get_logger

log = get_logger("ossmount")
T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 20.0  # without a byte from the server
CALL_SECONDS: Final = 60.0
SLOWEST_RATE: Final = 256 * 1024  # bytes/s a transfer may fall to before its deadline passes
MAX_ERROR_BODY: Final = 64 * 1024
MAX_HEADER: Final = 16 * 1024
READ_BUFFER: Final = 128 * 1024  # aiohttp pauses the socket at twice this
BODY_PIECE: Final = 256 * 1024
LOUD_CODES: Final = frozenset(
    {"RequestTimeTooSkewed", "InvalidAccessKeyId", "SignatureDoesNotMatch", "SecurityTokenExpired"}
)


@dataclass(frozen=True, slots=True)
class OssRequest:
    """One call in the words of the API. ``key`` is raw, and empty for a call on the bucket."""

    operation: str
    method: str
    key: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | bytearray | memoryview | None = None
    idempotent: bool = True
    transfer: int = 0  # bytes expected to move, for the deadline
    call_seconds: float = CALL_SECONDS

    @property
    def seconds(self) -> float:
        """The deadline of the whole call, retries included."""
        size = self.transfer + (0 if self.body is None else len(self.body))
        return self.call_seconds + size / SLOWEST_RATE


def make_tls(ca_pem: str | None) -> ssl.SSLContext:
    """Return a verifying context. Given roots replace the system's. Raises ``LaunchError``."""
    try:
        return ssl.create_default_context(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise LaunchError("ca_pem holds no PEM certificates") from error


class OssClient:
    """Sends calls for one bucket. An asynchronous context manager; owns its connections."""

    def __init__(
        self,
        endpoint: Endpoint,
        signer: Signer,
        *,
        ca_pem: str | None,
        connections: int,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._signer = signer
        self._policy = policy or RetryPolicy()
        self._tls = make_tls(ca_pem) if endpoint.secure else None
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, ssl=self._tls if self._tls is not None else True
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, request: OssRequest, consume: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T:
        """Send, let ``consume`` read a 2xx answer, and return what it returns.

        ``consume`` runs once for each attempt and must start afresh. Raises an
        :class:`~ossmount.errors.OssError`; :class:`OssTimeoutError` when the call's deadline
        passes. A cancelled call closes its connection.
        """
        last: OssError | None = None
        try:
            async with asyncio.timeout(request.seconds):
                for attempt in range(1, self._policy.attempts + 1):
                    try:
                        async with self._exchange(request) as response:
                            return await consume(response)
                    except OssError as error:
                        last = error
                        delay = self._policy.delay(
                            error, attempt, idempotent=request.idempotent, jitter=random.random
                        )
                        if delay is None:
                            raise
                        log.info("retry", operation=request.operation, attempt=attempt, error=error)
                        await asyncio.sleep(delay)
        except TimeoutError as error:
            raise OssTimeoutError(request.operation, request.seconds) from last or error
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def call_small(self, request: OssRequest, *, limit: int = MAX_ERROR_BODY) -> Answer:
        """Send a call whose answer has a small body, and return the answer read completely."""

        async def consume(response: aiohttp.ClientResponse) -> Answer:
            return Answer(lower_headers(response), await read_bounded(request, response, limit))

        return await self.call(request, consume)

    @asynccontextmanager
    async def _exchange(self, request: OssRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("OssClient is used outside of its context")
        headers = self._signer.sign(request.method, request.key, request.params, request.headers)
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
        try:
            async with self._session.request(
                request.method,
                self._endpoint.url(request.key, request.params),
                headers=headers,
                data=None if request.body is None else _pieces(request.body),
                allow_redirects=False,
            ) as response:
                if not 200 <= response.status < 300:
                    raise await _refusal(request, response)
                yield response
        except aiohttp.ClientSSLError as error:
            raise OssTlsError(request.operation, self._endpoint.host, _reason(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OssUnreachableError(
                request.operation, self._endpoint.host, _reason(error)
            ) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer with a small body. Header names are lower-case."""

    headers: Mapping[str, str]
    body: bytes


def lower_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the headers of a response under lower-case names."""
    return {name.lower(): value for name, value in response.headers.items()}


async def read_bounded(request: OssRequest, response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a whole body. Raises :class:`OssAnswerError` beyond ``limit`` bytes."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise OssAnswerError(request.operation, f"at most {limit} bytes", "more")
    return bytes(content)


async def _pieces(body: bytes | bytearray | memoryview) -> AsyncIterator[memoryview]:
    """Yield the body without copying it; each attempt starts a new one."""
    view = memoryview(body)
    for start in range(0, len(view), BODY_PIECE):
        yield view[start : start + BODY_PIECE]


async def _refusal(request: OssRequest, response: aiohttp.ClientResponse) -> OssRefusedError:
    headers = lower_headers(response)
    if request.method == "HEAD":
        body = _decoded_error(headers.get("x-oss-err", ""))
    else:
        body = await read_bounded(request, response, MAX_ERROR_BODY)
    error = OssRefusedError(
        request.operation,
        status=response.status,
        code=parse_error_code(body) if body else "",
        request_id=_request_id(headers),
        delay_s=_delay_seconds(headers.get("x-oss-qos-delay-time", "")),
    )
    if error.code in LOUD_CODES:
        log.error("refused", operation=error.operation, code=error.code, request=error.request_id)
    return error


def _decoded_error(text: str) -> bytes:
    """HEAD has no body; the error document comes base64-coded in ``x-oss-err``."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _request_id(headers: Mapping[str, str]) -> str:
    text = headers.get("x-oss-request-id", "")
    return text if len(text) <= 32 and text.isascii() and text.isalnum() else ""


def _delay_seconds(text: str) -> float:
    return int(text) / 1000 if text.isascii() and text.isdigit() and len(text) < 9 else 0.0


def _reason(error: BaseException) -> str:
    """Name the cause without peer text: the system's own words, else the error's type."""
    cause: BaseException | None = error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error  # the wrapper only looks like the error it wraps
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message[:120]
        if isinstance(cause, ssl.SSLError):
            return (cause.reason or "TLS error")[:120]
        if isinstance(cause, socket.gaierror):
            return "the name does not resolve"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
            return os.strerror(cause.errno)
        cause = cause.__cause__
    return type(error).__name__
