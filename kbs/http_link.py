"""HTTP as the KBS client wants it: one request, one bounded answer, one kind of error.

Owns the aiohttp session and everything that could surprise: no redirects, no cookie jar, no
proxies or credentials from the environment, no compression, limits on size and time. Knows
nothing of the protocol above.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from kbs.errors import (
    AnswerTooLongError,
    KbsClosedError,
    KbsProtocolError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
    KbsUrlError,
)
from kbs.retry_after import retry_after_seconds
from kbs.tls import KbsTls, tls_hint
from secrecy.journal import get_logger

if TYPE_CHECKING:
    import aiohttp

log = get_logger("kbs")

USER_AGENT: Final = "confidential-guest-kbs-client/0.1.0"
CHUNK_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 8  # to the one KBS; more requests than that wait for their turn
KEEPALIVE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer, within its size limit."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None
    set_cookies: tuple[str, ...] = field(repr=False, default=())


class HttpLink:
    """Requests to one base URL. Opens its first connection with the first request."""

    def __init__(self, base_url: str, tls: KbsTls, proxy: str | None = None) -> None:
        """``proxy`` is ``http://host:port``; TLS goes through it end to end (CONNECT).

        Raises :class:`~kbs.errors.KbsUrlError` or :class:`~kbs.errors.KbsTlsError`.
        """
        self.base_url = _checked_base_url(base_url)
        self._proxy = None if proxy is None else _checked_proxy(proxy)
        # Plain http only where the configuration itself says http://: nothing redirects there.
        self._ssl = tls.context() if self.base_url.startswith("https://") else None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)

    async def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        max_bytes: int,
        max_error_bytes: int,
        seconds: float,
        deadline: float,
        attempted: str,
    ) -> Answer:
        """Send one request and return the whole answer.

        ``target`` is the escaped path and query below the base URL. A body of status 200 may
        have ``max_bytes``, else :class:`~kbs.errors.AnswerTooLongError`; any other is cut at
        ``max_error_bytes``, since its status says enough. The exchange takes ``seconds`` at
        most; they do not run while it waits for its turn, but ``deadline`` (loop time) counts
        always. Raises :class:`~kbs.errors.KbsError`. Cancellation closes the connection.
        """
        if self._session is None:
            # aiohttp takes 0.2 s to import, most of what a start may take; a process that only
            # reads URIs or sessions (and one that waits for its first request) does not need it
            # yet. In a thread, because the loop serves others meanwhile.
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout_at(deadline), self._turns:
                started = loop.time()
                async with (
                    asyncio.timeout(seconds),
                    _translated(attempted),
                    self._request(method, target, headers, body, attempted) as response,
                ):
                    _refuse_surprises(response, attempted)
                    answer = await _read_answer(response, max_bytes, max_error_bytes, attempted)
                    took_ms = round((loop.time() - started) * 1000, 1)
                    log.debug("exchange", attempted=attempted, status=answer.status, ms=took_ms)
                    return answer
        except TimeoutError:
            waited = min(seconds, max(deadline - started, 0.0))
            raise KbsTimeoutError(waited, attempted=attempted) from None

    def _request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        attempted: str,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        from yarl import URL

        if self._closed:  # a repeated request would open connections that nobody closes
            raise KbsClosedError(attempted=attempted)
        url = URL(f"{self.base_url}{target}", encoded=True)
        session = self._session or self._open_session()
        return session.request(
            method, url, headers=headers, data=body, allow_redirects=False, proxy=self._proxy
        )

    async def aclose(self) -> None:
        """Close all connections, for good."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._ssl if self._ssl is not None else True,
                limit=MAX_CONNECTIONS,
                # The system's resolver, in a thread: glibc reads a changed resolv.conf again.
                # A cache would go on with what the old one said.
                resolver=aiohttp.ThreadedResolver(),
                use_dns_cache=False,
                keepalive_timeout=KEEPALIVE_SECONDS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # Times are limited by asyncio.timeout around the whole exchange.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )
        return self._session


def _checked_base_url(text: str) -> str:
    if len(text) > 1024 or not text.isascii() or not text.isprintable() or " " in text:
        raise KbsUrlError("longer than 1024 characters, or with characters outside ASCII")
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise KbsUrlError(str(error)) from error
    if parts.scheme not in {"http", "https"}:
        raise KbsUrlError(f"scheme {parts.scheme!r} is not http or https")
    if not host:
        raise KbsUrlError("it has no host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise KbsUrlError("it has a user name, query or fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _checked_proxy(text: str) -> str:
    try:
        url = _checked_base_url(text)
        parts = urlsplit(url)
    except KbsUrlError as error:
        raise KbsUrlError(f"its proxy: {error.problem}") from error
    if parts.scheme != "http" or parts.path or parts.port is None:
        raise KbsUrlError("its proxy is not of the form http://host:port")
    return url


def _refuse_surprises(response: aiohttp.ClientResponse, attempted: str) -> None:
    if 300 <= response.status < 400:
        raise KbsProtocolError(
            f"answered with a redirect (HTTP {response.status}), which is never followed",
            attempted=attempted,
            hint="configure the final URL of the KBS",
        )
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise KbsProtocolError(
            "answered with a compressed body although none was asked for",
            attempted=attempted,
            hint="switch compression off in the proxy before the KBS",
        )


async def _read_answer(
    response: aiohttp.ClientResponse, max_bytes: int, max_error_bytes: int, attempted: str
) -> Answer:
    if response.status == 200:
        content = await _read_whole(response, max_bytes, attempted)
    else:
        content = await _read_start(response, max_error_bytes)
    return Answer(
        status=response.status,
        body=content,
        retry_after=retry_after_seconds(
            response.headers.get("Retry-After"), response.headers.get("Date"), time.time()
        ),
        set_cookies=tuple(response.headers.getall("Set-Cookie", ())),
    )


async def _read_whole(response: aiohttp.ClientResponse, limit: int, attempted: str) -> bytes:
    announced = response.content_length
    if announced is not None and announced > limit:
        raise AnswerTooLongError(limit, attempted=attempted)
    content = await _read_start(response, limit + 1)
    if len(content) > limit:
        raise AnswerTooLongError(limit, attempted=attempted)
    return content


async def _read_start(response: aiohttp.ClientResponse, size: int) -> bytes:
    """Read up to ``size`` bytes; what is left unread closes the connection with the response."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        content += chunk
        if len(content) >= size:
            break
    return bytes(content[:size])


def _reason(error: OSError) -> str:
    """Return the system's words: asyncio has "Connect call failed" for every errno."""
    if error.errno is not None and error.errno > 0:  # name look-up has negative numbers
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _is_local(error: OSError) -> bool:
    """Whether the attempt ended in this guest, as it does before the network is there."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return error.errno in {errno.ENETUNREACH, errno.ENETDOWN}


@asynccontextmanager
async def _translated(attempted: str) -> AsyncIterator[None]:
    """Turn what aiohttp and the system raise into errors of this package."""
    import aiohttp

    try:
        yield
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise KbsTlsError(
            "the KBS could not be authenticated over TLS",
            attempted=attempted,
            hint=tls_hint(error),
        ) from error
    except aiohttp.ClientProxyConnectionError as error:
        raise KbsUnreachableError(
            f"no connection to the proxy ({_reason(error.os_error)})",
            attempted=attempted,
            hint="see that the configured proxy runs, and that name and port are right",
        ) from error
    except aiohttp.ClientHttpProxyError as error:
        raise KbsUnreachableError(
            f"the proxy made no way to the KBS (HTTP {error.status})",
            attempted=attempted,
            hint="see what the proxy allows; it may not know the KBS's name or may want a log-in",
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise KbsUnreachableError(
            f"no connection ({_reason(error.os_error)})",
            attempted=attempted,
            hint="see that the KBS runs, and that name, port and firewall are right",
            no_network=_is_local(error.os_error),
        ) from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError) as error:
        raise KbsUnreachableError(
            "the connection was lost before the whole answer had arrived",
            attempted=attempted,
            hint="see whether the KBS or a proxy before it restarted or cut the answer",
        ) from error
    except aiohttp.ClientError as error:
        raise KbsProtocolError(
            f"the answer is not usable HTTP ({type(error).__name__})",
            attempted=attempted,
            hint="see that the URL and port are those of a KBS",
        ) from error
