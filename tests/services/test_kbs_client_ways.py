"""Pinned keys and proxies: who may stand at the other end, and who may stand in between."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from kbs import KbsClient, KbsTls, KbsTlsError, KbsUnreachableError, KbsUrlError
from kbs.tls import spki_pin
from mocktee.certs import LocalTls, provide_tls
from tests.services.fake_kbs import answer, running
from tests.services.kbs_client_parts import ONCE, URI, Attester

WRONG = "0" * 64


def _pin(tls: LocalTls) -> str:
    return spki_pin(ssl.PEM_cert_to_DER_cert(tls.certificate.read_text()))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["right name", "other name"])
async def test_a_pinned_key_is_enough(tmp_path: Path, host: str) -> None:
    tls = provide_tls(tmp_path)
    trust = KbsTls(pins=frozenset({WRONG, _pin(tls).upper()}))
    async with running(tls.server_context(), host=host) as kbs, KbsClient(kbs.url, trust) as client:
        session = await client.handshake(Attester())
        assert (await client.resource(URI, session)).reveal() == b"the secret"


async def test_another_key_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path)
    async with (
        running(tls.server_context()) as kbs,
        KbsClient(kbs.url, KbsTls(pins=frozenset({WRONG})), retries=ONCE) as client,
    ):
        with pytest.raises(KbsTlsError) as caught:
            await client.handshake(Attester())
        assert kbs.seen == []
    assert _pin(tls) in caught.value.hint


def test_pins_hold_on_the_loop_of_the_daemons(tmp_path: Path) -> None:
    """uvloop has a TLS of its own, which has to ask for the pin as well."""
    tls = provide_tls(tmp_path)

    async def attest(pin: str) -> int:
        trust = KbsTls(pins=frozenset({pin}))
        async with running(tls.server_context()) as kbs, KbsClient(kbs.url, trust) as client:
            with suppress(KbsTlsError):
                await client.handshake(Attester())
            return len(kbs.seen)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(attest(_pin(tls))) == 2
        assert runner.run(attest(WRONG)) == 0


@pytest.mark.parametrize(
    ("own_ca", "own_pin", "good"),
    [(True, True, True), (True, False, False), (False, True, False)],
    ids=["both", "wrong pin", "wrong CA"],
)
async def test_a_pin_beside_a_ca_wants_both(
    tmp_path: Path, own_ca: bool, own_pin: bool, good: bool
) -> None:
    tls, other = provide_tls(tmp_path / "own"), provide_tls(tmp_path / "other")
    trust = KbsTls(
        (tls if own_ca else other).ca.read_text(),
        pins=frozenset({_pin(tls) if own_pin else WRONG}),
    )
    async with (
        running(tls.server_context()) as kbs,
        KbsClient(kbs.url, trust, retries=ONCE) as client,
    ):
        if good:
            await client.handshake(Attester())
        else:
            with pytest.raises(KbsTlsError):
                await client.handshake(Attester())
        assert bool(kbs.seen) is good


@pytest.mark.parametrize("pin", ["", "sha256/x", "0" * 63, "g" * 64, "0" * 65])
def test_texts_that_are_no_pins(pin: str) -> None:
    with pytest.raises(KbsTlsError, match="no pin"):
        KbsClient("https://kbs", KbsTls(pins=frozenset({pin})))


class Proxy:
    """A proxy that knows CONNECT and absolute http targets, and counts what passes."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.refuse = b""
        self.passed = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{method} {target}")
        if self.refuse:
            writer.write(b"HTTP/1.1 " + self.refuse + b"\r\nContent-Length: 0\r\n\r\n")
        else:
            place = target if method == "CONNECT" else target.split("/")[2]
            host, port = place.rsplit(":", 1)
            upstream = await asyncio.open_connection(host, int(port))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                upstream[1].write(head)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, upstream[1]))
                group.create_task(self._pump(upstream[0], writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                self.passed += chunk
                writer.write(chunk)
        finally:
            writer.close()


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy


async def test_tls_goes_through_the_proxy_end_to_end(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path)
    async with proxying() as proxy, running(tls.server_context()) as kbs:
        trust = KbsTls(tls.ca.read_text(), pins=frozenset({_pin(tls)}))
        async with KbsClient(kbs.url, trust, proxy=proxy.url) as client:
            session = await client.handshake(Attester())
            assert (await client.resource(URI, session)).reveal() == b"the secret"
        assert proxy.asked
        assert set(proxy.asked) == {f"CONNECT {kbs.url.removeprefix('https://')}"}
        assert b"/kbs/v0" not in proxy.passed
        with pytest.raises(KbsTlsError):
            async with KbsClient(kbs.url, KbsTls(), proxy=proxy.url, retries=ONCE) as client:
                await client.handshake(Attester())


async def test_plain_http_through_a_proxy() -> None:
    async with proxying() as proxy, running() as kbs:
        async with KbsClient(kbs.url, proxy=proxy.url) as client:
            await client.handshake(Attester())
        assert proxy.asked[0] == f"POST {kbs.url}/kbs/v0/auth"


async def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path)
    async with proxying() as proxy, running(tls.server_context()) as kbs:
        proxy.refuse = b"407 Proxy Authentication Required"
        trust = KbsTls(tls.ca.read_text())
        async with KbsClient(kbs.url, trust, proxy=proxy.url, retries=ONCE) as client:
            with pytest.raises(KbsUnreachableError, match="no way to the KBS"):
                await client.handshake(Attester())


async def test_a_proxy_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with running() as kbs:
            async with KbsClient(kbs.url, proxy=proxy, retries=ONCE) as client:
                with pytest.raises(KbsUnreachableError, match="no connection to the proxy"):
                    await client.handshake(Attester())
            assert kbs.seen == []


@pytest.mark.parametrize(
    "proxy",
    ["", "proxy:3128", "https://proxy:3128", "http://user:pw@proxy:1", "http://proxy",
     "http://proxy:1/x", "socks5://proxy:1"],
)  # fmt: skip
def test_proxies_that_are_refused(proxy: str) -> None:
    with pytest.raises(KbsUrlError, match="proxy") as caught:
        KbsClient("https://kbs", proxy=proxy)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_leads_to_another_host(status: int) -> None:
    async with running() as kbs, running(host="127.0.0.2") as other:
        kbs.play("auth", answer(status, Location=f"{other.url}/kbs/v0/auth"))
        async with KbsClient(kbs.url, retries=ONCE) as client:
            with pytest.raises(Exception, match="redirect"):
                await client.handshake(Attester())
        assert other.seen == []
