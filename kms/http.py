"""One bounded POST or GET over HTTP(S) to a key management service.

Retries once what did not reach the service or was turned away for a moment: no call made here
changes anything. No proxy, trust anchor or TLS setting comes from the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from yarl import URL

from kms.errors import KmsAnswerError, KmsCredentialError, KmsUnreachableError

MAX_ANSWER: Final = 256 * 1024  # bytes; the largest secret of Alibaba's KMS has 30 KiB
REQUEST_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.3  # before the second attempt, +-50 %
ATTEMPTS: Final = 2
AGENT: Final = "confidential-guest"
TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body. The body may hold a secret: never log it."""

    status: int
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status}, <{len(self.body)} bytes>)"


def tls_context(ca_pem: str | None, source: str) -> ssl.SSLContext:
    """Return a context that trusts the system's roots and those in ``ca_pem``.

    Not ``ssl.create_default_context``, which obeys ``SSLKEYLOGFILE``. Raises
    :class:`KmsCredentialError` that names ``source`` if the PEM cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if ca_pem is not None:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise KmsCredentialError(source, "not usable PEM certificates") from error
    return context


@dataclass(frozen=True, slots=True)
class Question:
    """One request. ``url`` is used as it stands, encoded; ``attempted`` is for messages.

    A query may hold a security token, so the URL is never shown.
    """

    method: str
    url: str = field(repr=False)
    attempted: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def host(self) -> str:
        """The host part of the URL, with its port if it has one."""
        return URL(self.url, encoded=True).authority


async def ask(make: Callable[[], Question], tls: ssl.SSLContext | None) -> Answer:
    """Send one request and return the whole answer. ``tls`` is ``None`` for plain HTTP.

    ``make`` is called for each attempt, because a signature may be good for one. Raises
    :class:`KmsUnreachableError` or :class:`KmsAnswerError`, which name host and attempt.
    """
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(KmsUnreachableError):
            answer = await _once(make(), tls)
            if answer.status not in TRY_AGAIN:
                return answer
        await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
    return await _once(make(), tls)


async def _once(question: Question, tls: ssl.SSLContext | None) -> Answer:
    host, attempted = question.host, question.attempted
    try:
        async with (
            asyncio.timeout(REQUEST_SECONDS),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=1),
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.request(
                question.method,
                URL(question.url, encoded=True),
                data=question.body,
                headers={**question.headers, "Accept-Encoding": "identity", "User-Agent": AGENT},
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
            ) as response,
        ):
            return Answer(response.status, await _body(response, host, attempted))
    except TimeoutError as error:
        problem = f"no complete answer within {REQUEST_SECONDS:g} s"
        raise KmsUnreachableError(host, attempted, problem) from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise KmsUnreachableError(
            host, attempted, "the server could not be authenticated",
            hint="for a dedicated instance give its CA certificate",
        ) from error  # fmt: skip
    except aiohttp.ClientError as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
        problem = reason or f"the connection failed ({type(error).__name__})"
        # Without "from": some of these texts hold the URL, whose query may hold a token.
        raise KmsUnreachableError(host, attempted, problem) from None


async def _body(response: aiohttp.ClientResponse, host: str, attempted: str) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(16 * 1024):
        content += chunk
        if len(content) > MAX_ANSWER:
            raise KmsAnswerError(host, attempted, f"the answer is longer than {MAX_ANSWER} bytes")
    return bytes(content)
