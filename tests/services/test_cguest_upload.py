"""``cguest secret keygen --upload`` against the mock key broker's administration."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from cguest.__main__ import main
from cguest.outcome import Exit
from kbs import KbsError
from kbs.admin import TOKEN_SECONDS, read_admin_token, sign_admin_token
from mocktee.kbs import KbsOptions, MockKbs
from mocktee.kbs.jws import parse_signed
from mocktee.pki import MockPki
from secrecy import Secret

PKI = MockPki.create()
ADMIN = ed25519.Ed25519PrivateKey.generate()
KID = "kbs:///default/signing-key/sealed"
SEGMENTS = ["default", "signing-key", "sealed"]
Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest_asyncio.fixture(params=["head", "v0.13", "v0.8"])
async def kbs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MockKbs]:
    options = KbsOptions(admin_keys=(ADMIN.public_key(),), era=request.param)
    async with MockKbs.start(tmp_path / "kbs", PKI, options) as started:
        yield started


@pytest_asyncio.fixture
async def newest(tmp_path: Path) -> AsyncIterator[MockKbs]:
    options = KbsOptions(admin_keys=(ADMIN.public_key(),))
    async with MockKbs.start(tmp_path / "kbs", PKI, options) as started:
        yield started


def arguments(folder: Path, url: str, key: Key = ADMIN, *more: str) -> list[str]:
    (folder / "admin.pem").write_bytes(pem(key))
    return [
        "secret", "keygen", "--kid", KID, "--directory", str(folder), "--upload",
        "--kbs-url", url, "--admin-key", str(folder / "admin.pem"), *more,
    ]  # fmt: skip


def trusting(kbs: MockKbs) -> list[str]:
    return ["--kbs-ca", str(kbs.ca_file)]


async def run(command: list[str]) -> int:
    return await asyncio.to_thread(main, command)


def keys_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("sealed-*"))


async def test_the_public_half_is_stored_and_nothing_else(kbs: MockKbs, tmp_path: Path) -> None:
    assert await run([*arguments(tmp_path, kbs.url), *trusting(kbs)]) == Exit.PASS
    stored = kbs.resources.get(SEGMENTS)
    assert stored == (tmp_path / "sealed-signing-public.json").read_bytes()
    assert "d" not in json.loads(stored)


async def test_a_ready_made_token_does_as_well(newest: MockKbs, tmp_path: Path) -> None:
    token = tmp_path / "kbs" / "admin-token"
    command = [
        "secret", "keygen", "--kid", KID, "--directory", str(tmp_path), "--upload",
        "--kbs-url", newest.url, "--admin-token", str(token), *trusting(newest),
    ]  # fmt: skip
    assert await run(command) == Exit.PASS
    assert newest.resources.get(SEGMENTS)


async def test_a_key_that_is_no_administrator_is_refused_and_leaves_nothing(
    newest: MockKbs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    command = [*arguments(tmp_path, newest.url, other), *trusting(newest)]
    assert await run(command) == Exit.REFUSED
    assert keys_in(tmp_path) == []
    told = capsys.readouterr().err
    assert "AdminAuth" in told
    assert "Bearer" not in told


async def test_a_key_broker_that_nobody_vouches_for_gets_no_token(
    newest: MockKbs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(arguments(tmp_path, newest.url)) == Exit.ERROR
    assert "TLS" in capsys.readouterr().err
    assert keys_in(tmp_path) == []


async def test_a_key_broker_that_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{nobody.getsockname()[1]}"
        assert await run(arguments(tmp_path, url)) == Exit.ERROR
    assert "no connection" in capsys.readouterr().err
    assert keys_in(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"--kid": "team-key"}, "file name"),
        ({"--kid": "kbs:///a/b"}, "repository/type/tag"),
        ({"--kbs-url": "http://kbs.example"}, "in plain"),
        ({"--kbs-url": ""}, "scheme"),
        ({"--admin-key": "/nonexistent"}, "No such file"),
        ({"--kbs-ca": "/etc/hostname"}, "PEM"),
    ],
)
def test_what_cannot_work_is_said_before_a_key_is_made(
    change: dict[str, str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tmp_path, "https://127.0.0.1:1")
    for option, value in change.items():
        if option in command:
            command[command.index(option) + 1] = value
        else:
            command += [option, value]
    assert main(command) == Exit.ERROR
    assert told in capsys.readouterr().err
    assert keys_in(tmp_path) == []


def test_upload_needs_a_key_broker_and_a_credential(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["secret", "keygen", "--kid", KID, "--directory", str(tmp_path), "--upload"]
    assert main(command) == Exit.ERROR
    assert "--kbs-url" in capsys.readouterr().err


def test_a_public_key_that_is_there_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "sealed-signing-public.json"
    kept.write_text("mine")
    assert main(["secret", "keygen", "--kid", KID, "--directory", str(tmp_path)]) == Exit.ERROR
    assert keys_in(tmp_path) == [kept.name]
    assert kept.read_text() == "mine"


def test_the_token_has_what_each_release_looks_for() -> None:
    token = sign_admin_token(Secret(pem(ADMIN)), "x", clock=lambda: 1_000_000.0)
    parsed = parse_signed(token.reveal_text())
    parsed.verify(ADMIN.public_key())
    assert parsed.claims == {
        "iat": 999_970, "nbf": 999_970, "exp": 1_000_000 + TOKEN_SECONDS, "role": "admin",
    }  # fmt: skip


@pytest.mark.parametrize(
    "content", [b"", b"secret words", pem(ec.generate_private_key(ec.SECP256R1())), b"\xff" * 40]
)
def test_other_keys_are_refused_and_not_shown(content: bytes) -> None:
    with pytest.raises(KbsError) as caught:
        sign_admin_token(Secret(content), "admin.pem")
    assert "secret words" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "content",
    [b"", b"a.b", b"a.b.c d", b"a.b.\ncd", b"\xff.b.c", b"a.b.c\rd", b"a.b.\0c", b"a..c"],
)
def test_what_is_no_token(content: bytes) -> None:
    with pytest.raises(KbsError, match="three parts"):
        read_admin_token(Secret(content), "admin-token")
