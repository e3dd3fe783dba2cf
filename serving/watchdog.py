"""Tells systemd that we are alive, after requests of our own have been answered, and only then.

A loop that hangs, a server that no longer answers and a process that thrashes all look alive from
inside; so the watchdog asks as a client does, over the sockets. It keeps its connections: guests
who take all others must not make it believe that nobody is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from google.protobuf.message import Message

from lifecycle import Readiness, Shutdown, UnixAddress
from secrecy.journal import get_logger
from ttrpc import Client, StatusError, TtrpcError

log = get_logger("serving")

CONNECT_SECONDS: Final = 2.0
Probe: TypeAlias = Callable[[float], Awaitable[None]]


class SelfRequest:
    """One unary method, asked over its unix socket; a probe of :class:`Watchdog`."""

    def __init__(
        self,
        address: UnixAddress,
        service: str,
        method: str,
        request: Message,
        response_type: type[Message],
    ) -> None:
        self._address = address
        self._service = service
        self._method = method
        self._request = request
        self._response_type = response_type
        self._client: Client | None = None

    async def __call__(self, seconds: float) -> None:
        """Return when answered. A refusal is an answer: a part that is down is not a hang.

        Raises :class:`ttrpc.TtrpcError`.
        """
        if self._client is None:
            self._client = await Client.connect(self._address.path, timeout_s=CONNECT_SECONDS)
        try:
            await self._client.call(
                self._service, self._method, self._request, self._response_type, timeout_s=seconds
            )
        except StatusError:
            return
        except TtrpcError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class HttpRequest:
    """``GET`` of one path on a loopback port, on a connection of its own; a probe."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._host = host
        self._port = port
        self._path = path

    async def __call__(self, _seconds: float) -> None:
        """Return when a status line has come, whichever. Raises ``OSError`` or ``TimeoutError``."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            host = f"[{self._host}]" if ":" in self._host else self._host
            lines = (f"GET {self._path} HTTP/1.1", f"Host: {host}:{self._port}")
            writer.write("\r\n".join((*lines, "Connection: close", "", "")).encode())
            await writer.drain()
            if not (await reader.readline()).startswith(b"HTTP/1."):
                raise ConnectionResetError("closed without an answer")
        finally:
            writer.close()


class Watchdog:
    """Asks every probe, three times within systemd's limit."""

    def __init__(self, readiness: Readiness, probes: Mapping[str, Probe | None]) -> None:
        """A probe that is ``None`` is left out."""
        self._readiness = readiness
        self._probes = {name: probe for name, probe in probes.items() if probe is not None}

    async def run(self) -> None:
        """Probe until cancelled. Returns at once where no watchdog is asked for.

        systemd's manager is told after a round in which everybody has answered in time. Who does
        not is named in the log, so that the end that follows has an explanation.
        """
        limit = self._readiness.watchdog_seconds
        if limit is None:
            return
        interval = limit / 3
        loop = asyncio.get_running_loop()
        next_round = loop.time()
        while True:
            if await self._all_answer(interval):
                self._readiness.alive()
            next_round = max(next_round + interval, loop.time())
            await asyncio.sleep(next_round - loop.time())

    async def _all_answer(self, seconds: float) -> bool:
        answers = [self._answers(name, probe, seconds) for name, probe in self._probes.items()]
        return all(await asyncio.gather(*answers))

    async def _answers(self, name: str, probe: Probe, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await probe(seconds)
        except Exception as error:  # noqa: BLE001 - no answer, whatever the reason
            log.error("no answer to ourselves", door=name, error=type(error).__name__)  # noqa: TRY400
            return False
        return True


async def serve_until(
    shutdown: Shutdown, readiness: Readiness, probes: Mapping[str, Probe | None]
) -> None:
    """Say that we are ready, answer for it until ``shutdown``, and say that we stop.

    For the time between opening the doors and draining them.
    """
    readiness.ready()
    watching = asyncio.create_task(Watchdog(readiness, probes).run(), name="watchdog")
    try:
        await shutdown.wait()
    finally:
        readiness.stopping()
        watching.cancel()
        await asyncio.wait({watching})
