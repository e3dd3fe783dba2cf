"""The REST server over real HTTP: routes, statuses and bodies of the reference, and our causes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest

from rest.app import open_rest
from rest.backends import Backends
from rest.config import BindAddress, RestConfig
from rest.errors import BackendError, RestConfigError
from rest.routes import MAX_BODY
from secrecy import Secret
from tests.services.fake_rest import FakeBackend, rest

OCTETS, JSON, TEXT = "application/octet-stream", "application/json", "text/plain; charset=utf-8"
B64 = base64.urlsafe_b64encode(bytes(range(48))).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("request_line", "status", "kind", "body", "asked"),
    [
        ("GET /cdh/resource/a/b/c", 200, OCTETS, b"\x00resource\xff", ["kbs:///a/b/c"]),
        ("POST /cdh/resource/a/b/c", 200, OCTETS, b"\x00resource\xff", ["kbs:///a/b/c"]),
        ("PUT /cdh/resource/a/b/c?x=1", 200, OCTETS, b"\x00resource\xff", ["kbs:///a/b/c"]),
        ("GET /cdh/resource/a%2Fb/c", 200, OCTETS, b"\x00resource\xff", ["kbs:///a%2Fb/c"]),
        ("GET /cdh/resource/../x", 200, OCTETS, b"\x00resource\xff", ["kbs:///../x"]),
        ("GET /cdh/resource/a/b/c#d", 200, OCTETS, b"\x00resource\xff", ["kbs:///a/b/c"]),
        ("GET http://127.0.0.1/cdh/resource/a/b/c", 200, OCTETS, b"\x00resource\xff",
         ["kbs:///a/b/c"]),
        ("GET /cdh/resource", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /cdh/resources/a/b/c", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /cdh/other", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /cdh/resource/", 200, OCTETS, b"\x00resource\xff", ["kbs:///"]),
        ("GET /cdh/resource//a", 200, OCTETS, b"\x00resource\xff", ["kbs:////a"]),
        ("HEAD /cdh/resource/a/b/c", 200, OCTETS, b"", ["kbs:///a/b/c"]),
        ("DELETE /cdh/resource/a/b/c", 200, OCTETS, b"\x00resource\xff", ["kbs:///a/b/c"]),
        ("GET /aa/token?token_type=kbs", 200, OCTETS, b'{"token":"t"}', ["kbs"]),
        ("GET /aa/token?token_type=", 200, OCTETS, b'{"token":"t"}', [""]),
        ("GET /aa/token", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/token?token_type=a&token_type=b", 200, OCTETS, b'{"token":"t"}', ["b"]),
        ("POST /aa/token?token_type=kbs", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /aa/evidence?runtime_data=a%20b+c", 200, OCTETS, b"evidence",
         [("primary", b"a b c")]),
        (f"GET /aa/evidence?runtime_data={B64}&encoding=base64", 200, OCTETS, b"evidence",
         [("primary", bytes(range(48)))]),
        ("GET /aa/evidence?runtime_data=", 200, OCTETS, b"evidence", [("primary", b"")]),
        ("GET /aa/evidence?runtime_data=Zg==&encoding=base64", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/evidence?runtime_data=Z&encoding=base64", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/evidence?runtime_data=Zh&encoding=base64", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/evidence?runtime_data=x&encoding=hex", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/evidence?runtime_data=%ff", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/evidence", 400, TEXT, b"BAD REQUEST", []),
        ("GET /aa/additional-evidence?runtime_data=x", 200, OCTETS, b"",
         [("additional", b"x")]),
        ("DELETE /aa/evidence?runtime_data=x", 404, TEXT, b"URL NOT FOUND", []),
        ("HEAD /aa/token?token_type=kbs", 404, TEXT, b"", []),
        ("GET /aa/token/?token_type=kbs", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /AA/token?token_type=kbs", 404, TEXT, b"URL NOT FOUND", []),
        ("GET //aa/token?token_type=kbs", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /aa/", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /aa/aael", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /aa/nothing", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /", 404, TEXT, b"URL NOT FOUND", []),
        ("GET /aa", 404, TEXT, b"URL NOT FOUND", []),
        ("POST /info", 405, TEXT, b"Method Not Allowed", []),
        ("HEAD /info", 405, TEXT, b"", []),
        ("GET /info/", 404, TEXT, b"URL NOT FOUND", []),
        ("POST /livez", 405, TEXT, b"Method Not Allowed", []),
        ("GET /cdh/resource/" + "x" * 5000, 400, TEXT, b"BAD REQUEST", []),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_routes(
    request_line: str, status: int, kind: str, body: bytes, asked: list[object]
) -> None:
    backend = FakeBackend()
    async with rest(backend) as browser:
        method, target = request_line.split(" ")
        assert await browser.ask(method, target) == (status, kind, body)
    assert backend.asked == asked


@pytest.mark.parametrize(
    ("features", "target", "status", "body"),
    [
        ("resource", "/aa/token?token_type=kbs", 404, b"Attestation Feature Not Enabled"),
        ("attestation", "/cdh/resource/a/b/c", 404, b"Resource Feature Not Enabled"),
        ("resource", "/aa/nothing", 404, b"Attestation Feature Not Enabled"),
        ("resource", "/aa", 404, b"URL NOT FOUND"),
        ("attestation", "/cdh/nothing", 404, b"Resource Feature Not Enabled"),
        ("resource", "/cdh/resource/a/b/c", 200, b"\x00resource\xff"),
        ("attestation", "/aa/token?token_type=kbs", 200, b'{"token":"t"}'),
    ],
)
async def test_features(features: str, target: str, status: int, body: bytes) -> None:
    async with rest(FakeBackend(), features) as browser:
        answer = await browser.ask("GET", target)
    assert (answer[0], answer[2]) == (status, body)


@pytest.mark.parametrize(
    ("features", "tail"),
    [
        ("all", b'"tee":"tdx","feature":"all"}'),
        ("attestation", b'"tee":"tdx","feature":"attestation"}'),
        ("resource", b'","feature":"resource"}'),
    ],
)
async def test_info(features: str, tail: bytes) -> None:
    backend = FakeBackend()
    async with rest(backend, features) as browser:
        status, kind, body = await browser.ask("GET", "/info")
    assert (status, kind) == (200, JSON)
    assert body.startswith(b'{"version":"Guest Components Version: ')
    assert body.endswith(tail)
    assert (backend.asked == []) == (features == "resource")


def refused(problem: str) -> bytes:
    return b'{"success":"false","message": "' + problem.encode() + b'"}'


EVENT = b'{"domain":"d","operation":"o","content":"c"}'


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (0, b'{"success":"true"}'),
        (1, refused("The platform does not support runtime measurement")),
        (2, refused("Attestation Agent does not enable eventlog recording")),
        (9, refused("Unknown runtime measurement result")),
    ],
)
async def test_aael(result: int, body: bytes) -> None:
    backend = FakeBackend(result=result)
    async with rest(backend) as browser:
        assert await browser.ask("POST", "/aa/aael", EVENT) == (200, JSON, body)
    assert backend.asked == [("d", "o", "c")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 500),
        (b"{}", 500),
        (b"[1]", 500),
        (b"\xff", 500),
        (b'{"domain":"d","operation":"o","content":1}', 500),
        (b"x" * (MAX_BODY + 1), 413),
    ],
    ids=["none", "empty", "list", "not utf-8", "number", "too long"],
)
async def test_aael_bodies_that_are_no_event(body: bytes, status: int) -> None:
    backend = FakeBackend()
    async with rest(backend) as browser:
        answer = await browser.ask("POST", "/aa/aael", body)
    assert answer[0] == status
    assert answer[2]
    assert backend.asked == []


async def test_a_chunked_body_is_bounded_too() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1024 + 2):
            yield b"x" * 1024

    backend = FakeBackend()
    async with rest(backend) as browser, aiohttp.ClientSession() as session:
        address = browser.address
        url = f"http://{address.host}:{address.port}/aa/aael"
        async with session.post(url, data=endless()) as answer:
            assert answer.status == 413
    assert backend.asked == []


async def test_a_failing_backend_is_500_with_text_and_cause() -> None:
    backend = FakeBackend(failure=BackendError("ttrpc request error", "policy\nsays no"))
    async with rest(backend) as browser:
        for target in ("/cdh/resource/a/b/c", "/aa/token?token_type=kbs", "/info"):
            answer = await browser.ask("GET", target)
            assert answer == (500, TEXT, b"ttrpc request error: policy says no")


async def test_a_caller_who_hangs_up_ends_the_work() -> None:
    class Slow(FakeBackend):
        def __init__(self) -> None:
            super().__init__()
            self.begun, self.ended = asyncio.Event(), asyncio.Event()

        async def get_resource(self, uri: str) -> Secret:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()
            raise AssertionError(uri)

    backend = Slow()
    async with rest(backend) as browser:
        asking = asyncio.create_task(browser.ask("GET", "/cdh/resource/a/b/c"))
        await backend.begun.wait()
        asking.cancel()
        await backend.ended.wait()


async def test_a_taken_port_is_named() -> None:
    async with rest(FakeBackend()) as browser:
        taken = RestConfig(bind=f"127.0.0.1:{browser.address.port}")
        with pytest.raises(RestConfigError, match="Address already in use") as caught:
            async with open_rest(taken, Backends(FakeBackend(), FakeBackend())):
                pass
    assert "--bind" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8006", BindAddress("127.0.0.1", 8006)),
        ("127.1.2.3:1", BindAddress("127.1.2.3", 1)),
        ("[::1]:80", BindAddress("::1", 80)),
    ],
)
def test_bind_addresses(text: str, address: BindAddress) -> None:
    assert BindAddress.parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "8006", "0.0.0.0:8006", "[::]:1", "10.0.0.1:1", "127.0.0.1:", "127.0.0.1:x",
             "127.0.0.1:70000", "localhost:80", "127.0.0.1:٣"],
)  # fmt: skip
def test_addresses_that_are_not_loopback(text: str) -> None:
    with pytest.raises(RestConfigError) as caught:
        BindAddress.parse(text)
    assert caught.value.key == "bind"


def test_unknown_features_are_refused() -> None:
    with pytest.raises(RestConfigError, match="resource, attestation, all"):
        RestConfig(features="everything").check()
