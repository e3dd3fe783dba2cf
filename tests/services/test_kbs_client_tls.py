"""Which KBS the client talks to: names, trust anchors, and nothing from the environment."""

from __future__ import annotations

import dataclasses
import gc
import socket
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kbs import (
    KbsClient,
    KbsTls,
    KbsTlsError,
    KbsUnreachableError,
    KbsUrlError,
)
from mocktee.certs import provide_tls
from tests.services.fake_kbs import (
    FakeKbs,
    running,
)
from tests.services.kbs_client_parts import ONCE, URI, Attester


@pytest.fixture
async def kbs() -> AsyncIterator[FakeKbs]:
    async with running() as fake:
        yield fake


@pytest.fixture
async def client(kbs: FakeKbs) -> AsyncIterator[KbsClient]:
    async with KbsClient(kbs.url) as client:
        yield client


@pytest.fixture
def tls_pem(tmp_path: Path) -> str:
    return provide_tls(tmp_path / "authority").ca.read_text()


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with KbsClient(url, retries=ONCE) as client:
            with pytest.raises(KbsUnreachableError) as caught:
                await client.handshake(Attester())
    assert str(caught.value).startswith(
        f"attesting to {url}: no connection (Connection refused); hint: "
    )
    assert "see that the KBS runs" in caught.value.hint
    assert caught.value.__cause__ is not None


async def test_a_name_that_does_not_exist() -> None:
    async with KbsClient("http://kbs.invalid", retries=ONCE) as client:
        with pytest.raises(KbsUnreachableError, match="no connection"):
            await client.handshake(Attester())


@pytest.mark.parametrize(
    "url",
    [
        "", "kbs:8080", "ftp://kbs", "https://", "http://user:pw@kbs", "http://kbs?x=1",
        "http://kbs#x", "http://kbs:port", "http://kbs:99999", "http://k bs", "http://kbs\r\nX:",
        "http://[::1", "unix:///kbs.sock", "http://" + "k" * 2000,
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(KbsUrlError) as caught:
        KbsClient(url)
    assert "pw" not in str(caught.value)


async def test_the_configured_ca_is_trusted_and_no_other(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path / "kbs")
    stranger = provide_tls(tmp_path / "stranger").ca.read_text()
    async with running(tls.server_context()) as kbs:
        own = KbsTls(ca_pem=tls.ca.read_text())
        for trust in (own, dataclasses.replace(own, system_roots=False)):
            async with KbsClient(kbs.url, trust) as client:
                session = await client.handshake(Attester())
                assert (await client.resource(URI, session)).reveal() == b"the secret"
        served = len(kbs.seen)
        for trust in (KbsTls(), KbsTls(ca_pem=stranger), KbsTls(stranger, system_roots=False)):
            async with KbsClient(kbs.url, trust) as client:
                with pytest.raises(KbsTlsError, match="attesting to https://") as caught:
                    await client.handshake(Attester())
            assert "kbs_cert" in caught.value.hint
        assert len(kbs.seen) == served


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path)
    async with (
        running(tls.server_context(), host="127.0.0.2") as kbs,
        KbsClient(kbs.url, KbsTls(tls.ca.read_text()), retries=ONCE) as client,
    ):
        with pytest.raises(KbsTlsError) as caught:
            await client.handshake(Attester())
    assert "another name" in caught.value.hint


async def test_tls_to_a_server_without_tls(kbs: FakeKbs) -> None:
    async with KbsClient(kbs.url.replace("http:", "https:"), retries=ONCE) as client:
        with pytest.raises(KbsTlsError) as caught:
            await client.handshake(Attester())
    assert "does not speak TLS" in caught.value.hint


@pytest.mark.parametrize("pem", ["", "no PEM", "/etc/ssl/ca.pem", "x" * (1024 * 1024 + 1)])
def test_trust_anchors_that_cannot_be_used(pem: str) -> None:
    with pytest.raises(KbsTlsError, match="not usable PEM"):
        KbsClient("https://kbs", KbsTls(ca_pem=pem))


def test_no_trust_anchor_at_all() -> None:
    with pytest.raises(KbsTlsError, match="no trust anchors"):
        KbsTls(system_roots=False).context()


def test_the_environment_cannot_make_tls_keys_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert KbsTls().context().keylog_filename is None


def test_clients_with_the_same_trust_share_a_context() -> None:
    pinned = KbsTls(pins=frozenset({"a" * 64}))
    shared = KbsTls().context()
    assert KbsTls().context() is shared
    assert pinned.context() is not shared
    assert KbsTls(pins=frozenset({"b" * 64})).context() is not pinned.context()


def test_a_context_ends_with_its_last_user(tls_pem: str) -> None:
    context = KbsTls(tls_pem, system_roots=False).context()
    forgotten = weakref.ref(context)
    del context
    gc.collect()
    assert forgotten() is None


def test_changed_roots_of_the_system_are_read_while_the_old_ones_are_in_use(
    tmp_path: Path, tls_pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text(tls_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    before = KbsTls().context()
    assert KbsTls().context() is before
    assert before.cert_store_stats()["x509_ca"] == 1
    roots.write_text(tls_pem + provide_tls(tmp_path / "other").ca.read_text())
    after = KbsTls().context()
    assert after.cert_store_stats()["x509_ca"] == 2
    assert KbsTls().context() is after


async def test_proxies_of_the_environment_are_not_used(
    kbs: FakeKbs, client: KbsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await client.handshake(Attester())
    assert len(kbs.seen) == 2


def test_importing_the_package_does_not_import_aiohttp() -> None:
    code = "import sys, kbs; sys.exit('aiohttp' in sys.modules or 'yarl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
