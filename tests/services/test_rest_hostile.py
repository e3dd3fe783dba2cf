"""Clients that are slow, many, or sent by somebody else, beside one in good faith."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from rest.app import open_rest
from rest.backends import Backends
from rest.config import BindAddress, RestConfig
from rest.counts import RestCounts
from rest.routes import Feature
from rest.service import Reachability
from tests.services.fake_rest import FakeBackend, HeldBackend

HEAD = b"GET /cdh/resource/a/b/c HTTP/1.1\r\nHost: localhost\r\n"
CLOSING = HEAD + b"Connection: close\r\n\r\n"
LARGE = 32 * 1024 * 1024  # more than the kernel keeps between two sockets
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(
    backend: FakeBackend | None = None, counts: RestCounts | None = None, **settings: Any
) -> AsyncIterator[BindAddress]:
    backend = backend if backend is not None else FakeBackend()
    config = msgspec.convert({"bind": "127.0.0.1:0", "features": "all", **settings}, RestConfig)
    async with open_rest(config, Backends(backend, backend), counts=counts) as address:
        yield address


@asynccontextmanager
async def connected(address: BindAddress) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(address: BindAddress, request: bytes = CLOSING) -> tuple[int, dict[str, str], bytes]:
    async with connected(address) as (reader, writer):
        writer.write(request)
        return parsed(await reader.read())


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split(" ")[1]), headers, body


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the server has closed the connection, in whichever way."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET", HEAD, HEAD + b"X: " + b"y" * 100],
    ids=["nothing", "a word", "no end", "half a header"],
)
async def test_an_unfinished_head_is_not_waited_for(sent: bytes) -> None:
    async with served(limits={"head_seconds": 0.2}) as address, connected(address) as (r, w):
        w.write(sent)
        assert await ended(r) == b""
        assert (await ask(address))[0] == 200


async def test_a_head_byte_by_byte_is_not_waited_for() -> None:
    async with served(limits={"head_seconds": 0.2}) as address, connected(address) as (r, w):
        closed = asyncio.create_task(ended(r))
        w.write(HEAD + b"X: ")
        while not closed.done():
            w.write(b"y")
            await asyncio.sleep(0.01)
        assert await closed == b""


async def test_after_an_answer_a_connection_is_kept_and_then_not() -> None:
    limits = {"keep_alive_seconds": 0.3, "head_seconds": 0.3}
    async with served(limits=limits) as address, connected(address) as (r, w):
        for _ in range(3):
            w.write(HEAD + b"\r\n")
            assert b"200 OK" in await r.readuntil(b"\r\n\r\n")
            await r.readexactly(10)
        assert await ended(r) == b""


async def test_a_body_has_its_time() -> None:
    async with served(limits={"body_seconds": 0.2}) as address, connected(address) as (r, w):
        w.write(b"POST /aa/aael HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert (await r.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408")


async def test_who_waits_for_permission_to_send_a_body_gets_it() -> None:
    body = b'{"domain":"d","operation":"o","content":"c"}'
    async with served() as address, connected(address) as (r, w):
        w.write(
            b"POST /aa/aael HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        )
        assert await r.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        w.write(body)
        assert parsed(await r.read())[0] == 200


async def test_an_answer_takes_its_place_until_it_was_taken() -> None:
    backend = HeldBackend(LARGE)
    backend.release.set()
    limits = {"requests": 1, "connections": 8}
    async with served(backend, limits=limits) as address, connected(address) as (r, w):
        w.write(CLOSING)
        assert b"200 OK" in await r.readuntil(b"\r\n\r\n")
        assert (await ask(address))[0] == 503
        assert len(await r.read()) == LARGE
        assert (await ask(address))[0] == 200


async def test_an_answer_that_nobody_takes_is_dropped() -> None:
    backend = HeldBackend(LARGE)
    backend.release.set()
    limits = {"send_seconds": 0.3, "requests": 1, "connections": 8}
    async with served(backend, limits=limits) as address, connected(address) as (r, w):
        w.write(CLOSING)
        assert b"200 OK" in await r.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(20):
            while (await ask(address))[0] != 200:
                await asyncio.sleep(0.02)
        assert len(await ended(r)) < LARGE


async def test_idle_connections_give_way_to_one_that_asks() -> None:
    limits = {"connections": 8, "requests": 4}
    async with served(limits=limits) as address, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connected(address)) for _ in range(40)]
        for _, writer in crowd:
            writer.write(b"GET /")
        assert (await ask(address))[0] == 200
        # The oldest were closed, the youngest are still there.
        assert await ended(crowd[0][0]) == b""
        crowd[-1][1].write(b"livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await crowd[-1][0].readuntil(b"\r\n\r\n")


async def test_requests_beyond_the_limits_are_told_when_to_come_again() -> None:
    backend = HeldBackend()
    limits = {"requests": 4, "requests_per_caller": 2}
    async with served(backend, limits=limits) as address, asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(ask(address)) for _ in range(2)]
        for _ in held:
            await backend.waiting.acquire()
        status, headers, body = await ask(address)
        assert (status, headers["retry-after"]) == (429, "1")
        assert body == b"too many requests of one caller at once, try again in 1 s"
        # Whoever watches the server is answered all the same.
        for probe in (b"livez", b"readyz"):
            request = b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % probe
            assert (await ask(address, request))[0] == 200
        backend.release.set()
    assert [task.result()[0] for task in held] == [200, 200]


async def test_a_listener_has_a_limit_of_its_own() -> None:
    backend = HeldBackend()
    async with (
        served(backend, limits={"requests": 1, "requests_per_caller": 9}) as address,
        asyncio.TaskGroup() as tasks,
    ):
        held = tasks.create_task(ask(address))
        await backend.waiting.acquire()
        status, headers, _ = await ask(address)
        assert (status, headers["retry-after"]) == (503, "1")
        backend.release.set()
    assert held.result()[0] == 200


async def test_a_rate_above_the_limit_is_429() -> None:
    limits = {"burst": 3, "requests_per_second": 0.01}
    async with served(limits=limits) as address:
        answers = [await ask(address) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429]
    assert int(answers[-1][1]["retry-after"]) > 90


async def test_a_thousand_idle_connections_and_pipelined_requests() -> None:
    async with served() as address, AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(connected(address))
        async with connected(address) as (reader, writer):
            writer.write((HEAD + b"\r\n") * 50 + CLOSING)
            assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 51


async def accepts(address: BindAddress) -> bool:
    try:
        async with connected(address):
            return True
    except ConnectionError:
        return False


async def test_at_the_end_requests_in_flight_are_answered_and_nobody_new_is_taken() -> None:
    backend = HeldBackend()
    closing = asyncio.Event()

    async def serve(bound: asyncio.Future[BindAddress]) -> None:
        async with served(backend) as address:
            bound.set_result(address)
            await closing.wait()

    async with asyncio.TaskGroup() as tasks:
        bound = asyncio.get_running_loop().create_future()
        serving = tasks.create_task(serve(bound))
        address = await bound
        held = tasks.create_task(ask(address))
        await backend.waiting.acquire()
        closing.set()
        while await accepts(address):
            pass
        assert not serving.done()
        backend.release.set()
    assert held.result()[0] == 200


HEADER: dict[str, Any] = {"required_header": "X-Cguest-Request: yes", "hosts": ["guest.internal"]}


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        ("GET /info|Host: localhost|X-Cguest-Request: yes", 200),
        ("GET /info|Host: guest.internal:8006|x-cguest-request: yes", 200),
        ("GET /info|Host: localhost", 403),
        ("GET /info|Host: localhost|X-Cguest-Request: no", 403),
        ("GET /info|Host: localhost|X-Cguest-Request: yes|X-Cguest-Request: yes", 403),
        ("GET /info|Host: evil.example|X-Cguest-Request: yes", 403),
        ("GET http://evil.example/info|Host: localhost|X-Cguest-Request: yes", 403),
        ("OPTIONS /cdh/resource/a/b/c|Host: localhost|Origin: http://evil.example", 403),
        ("GET /nowhere|Host: localhost", 403),
        ("GET /livez|Host: localhost", 200),
    ],
    ids=str,
)
async def test_the_anti_forgery_header(request_head: str, status: int) -> None:
    first, *headers = request_head.split("|")
    lines = [f"{first} HTTP/1.1", *headers, "Connection: close", "", ""]
    backend = FakeBackend()
    async with served(backend, **HEADER) as address:
        got, _, body = await ask(address, "\r\n".join(lines).encode())
    assert got == status, body
    if status == 403:
        assert body.startswith(b"Forbidden: ")
        assert backend.asked == []


async def test_without_the_option_any_host_will_do() -> None:
    async with served() as address:
        assert (await ask(address, CLOSING.replace(b"localhost", b"evil.example")))[0] == 200


@pytest.mark.parametrize(
    ("features", "resources", "attestation", "status"),
    [
        ("all", True, True, 200),
        ("all", True, False, 503),
        ("all", False, True, 503),
        ("resource", True, False, 200),
        ("attestation", False, True, 200),
        ("attestation", True, False, 503),
    ],
)
async def test_readiness_is_of_the_backends_that_are_needed(
    features: str, resources: bool, attestation: bool, status: int
) -> None:
    config = RestConfig(bind="127.0.0.1:0", features=features)
    backends = Backends(FakeBackend(reachable=resources), FakeBackend(reachable=attestation))
    async with open_rest(config, backends) as address:
        ready = await ask(address, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        alive = await ask(address, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert ready[0] == status
    assert json.loads(ready[2]) == {"status": "ready" if status == 200 else "not ready"}
    assert alive[::2] == (200, b'{"status":"alive"}')


class SlowBackend(FakeBackend):
    """Takes longer to show that it is there than an answer about that is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    async def is_reachable(self) -> bool:
        self.note("reachable")
        self.now += 1.5
        return self.reachable


async def test_all_who_ask_at_once_share_a_look_however_long_it_takes() -> None:
    backend = SlowBackend()
    backends = Backends(backend, FakeBackend())
    reachability = Reachability(Feature.RESOURCE, backends, clock=lambda: backend.now)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(reachability.of_all()) for _ in range(100)]
    assert all(task.result() for task in asking)
    assert backend.asked == ["reachable"]
    backend.now += 1.1
    assert await reachability.of_all()
    assert backend.asked == ["reachable"] * 2


async def test_answers_are_counted_by_route() -> None:
    counts = RestCounts()
    async with served(counts=counts) as address:
        await ask(address)
        for target in (b"/livez", b"/nowhere", b"/aa/evidence"):
            await ask(address, CLOSING.replace(b"/cdh/resource/a/b/c", target))
    found = {(route, of): count for route, of, count in counts.samples() if count}
    assert found == {("resource", "2xx"): 1, ("probe", "2xx"): 1, ("other", "4xx"): 2}
