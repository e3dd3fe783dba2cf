"""``GET /metrics`` on a unix socket of the operator's, and nothing else there.

HTTP is parsed by aiohttp's low-level server, as for REST; import this only where it is wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from cguestd.metrics_text import CONTENT_TYPE
from lifecycle import ListeningSocket

PATH: Final = "/metrics"
MAX_LINE: Final = 2048  # bytes of the request line and of a header
STOP_SECONDS: Final = 1.0
KEEP_SECONDS: Final = 75.0  # for a scraper's next request; most come every 15 to 60 s


@asynccontextmanager
async def open_metrics(listening: ListeningSocket, text: Callable[[], str]) -> AsyncIterator[None]:
    """Answer on ``listening`` with ``text``, which must not block; close it at the end."""

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return web.Response(status=404, text=f"only {PATH} is here\n")
        if request.method not in {"GET", "HEAD"}:
            headers = {"Allow": "GET, HEAD"}
            return web.Response(status=405, headers=headers, text="only GET is here\n")
        return web.Response(body=text().encode(), headers={"Content-Type": CONTENT_TYPE})

    server = web.Server(
        handle,
        access_log=None,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        keepalive_timeout=KEEP_SECONDS,
    )
    with listening:
        loop = asyncio.get_running_loop()
        accepting = await loop.create_unix_server(server, sock=listening.sock)
        try:
            yield
        finally:
            accepting.close()
            await server.shutdown(STOP_SECONDS)
