"""The local TLS authority of the mock services, judged by OpenSSL's strict rules."""

from __future__ import annotations

import asyncio
import ssl
import stat
from pathlib import Path

import pytest

from mocktee.certs import LocalTls, provide_tls

NAMES = ["localhost", "127.0.0.1", "oss.localhost", "bucket.oss.localhost", "oss.mock.test"]


async def greet(tls: LocalTls, name: str, trust: ssl.SSLContext) -> bytes:
    """Connect to a server of ``tls`` as ``name``; return what it says."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls.server_context())
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port, ssl=trust, server_hostname=name)
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_covered(tmp_path: Path, name: str) -> None:
    tls = provide_tls(tmp_path, dns_names=["oss.mock.test"])
    trust = tls.client_context()
    trust.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    assert await greet(tls, name, trust) == b"hello"


async def test_other_names_are_not(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await greet(tls, "oss.mock.test", tls.client_context())


async def test_nobody_else_trusts_it(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path / "one")
    other = provide_tls(tmp_path / "two")
    for trust in (ssl.create_default_context(), other.client_context()):
        with pytest.raises(ssl.SSLCertVerificationError):
            await greet(tls, "localhost", trust)


async def test_servers_of_one_directory_share_their_authority(tmp_path: Path) -> None:
    first = provide_tls(tmp_path, name="kbs")
    authority = first.ca.read_bytes()
    second = provide_tls(tmp_path, name="oss")
    assert second.ca.read_bytes() == authority
    assert first.certificate != second.certificate
    assert await greet(first, "localhost", second.client_context()) == b"hello"


def test_keys_are_private(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path)
    for path in (tls.key, tmp_path / "ca-key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
