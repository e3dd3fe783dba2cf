"""Alibaba Cloud KMS in its three credential modes, against a server that checks every signature."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from kms import (
    AliyunPlaces,
    KmsAnswerError,
    KmsCredentialError,
    KmsDirectory,
    KmsError,
    KmsPlaces,
    KmsRefusedError,
    KmsRequestError,
    KmsUnreachableError,
)
from kms import http as kms_http
from kms.aliyun.gateway import GatewayClient
from kms.aliyun.openapi import OpenApiClient
from mocktee.kms import KmsClientKey
from tests.services.kms_rig import (
    CLIENT_KEY_ID,
    GATEWAY,
    INSTANCE,
    KEY,
    RAM_ROLE,
    KmsRig,
    kms_rig,
    new_client_key,
)


@pytest.fixture(scope="module")
def client_key() -> KmsClientKey:
    return new_client_key()


@pytest_asyncio.fixture
async def rig(tmp_path: Path, client_key: KmsClientKey) -> AsyncIterator[KmsRig]:
    async with kms_rig(tmp_path, client_key) as started:
        yield started


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kms_http, "PAUSE_SECONDS", 0.0)


def iv_of(iv: bytes) -> dict[str, bytes]:
    import base64

    return {"iv": json.dumps(base64.b64encode(iv).decode()).encode()}


async def test_a_data_key_is_opened_by_client_key(rig: KmsRig) -> None:
    ciphertext, iv = rig.mock.keys.encrypt(KEY, b"k" * 32)
    decrypter = await rig.directory.decrypter("Aliyun", GATEWAY)
    opened = await decrypter.decrypt(KEY, ciphertext, iv_of(iv))
    assert opened.reveal() == b"k" * 32


async def test_settings_of_before_client_types_mean_a_client_key(rig: KmsRig) -> None:
    old = {name: value for name, value in GATEWAY.items() if name != "client_type"}
    holder = await rig.directory.holder("aliyun", old)
    assert (await holder.secret("database", {})).reveal() == b"s3cret"


@pytest.mark.parametrize("mode", ["client_key", "ecs_ram_role", "sts_token"])
async def test_a_secret_is_read_in_each_mode(rig: KmsRig, mode: str) -> None:
    settings = {"client_key": GATEWAY, "ecs_ram_role": RAM_ROLE, "sts_token": rig.sts()}[mode]
    rig.mock.keys.add_secret("database", "newer", "v2")
    holder = await rig.directory.holder("aliyun", settings)
    assert (await holder.secret("database", {})).reveal() == b"newer"
    older = await holder.secret("database", {"version_id": b'"v1"'})
    assert older.reveal() == b"s3cret"
    previous = await holder.secret("database", {"version_stage": b'"ACSPrevious"'})
    assert previous.reveal() == b"s3cret"


async def test_the_credentials_of_a_role_are_asked_for_anew(rig: KmsRig) -> None:
    holder = await rig.directory.holder("aliyun", RAM_ROLE)
    await holder.secret("database", {})
    rig.mock.openapi.access_keys.clear()
    rig.mock.add_role("guest-role", "STS.next", "next-secret", "next-token")
    assert (await holder.secret("database", {})).reveal() == b"s3cret"
    assert rig.mock.calls["metadata"] == 2


async def test_a_replaced_credential_file_is_in_force_at_once(rig: KmsRig) -> None:
    rig.mock.openapi.access_keys["STS.id2"] = ("secret2", "token2")
    del rig.mock.openapi.access_keys["STS.id"]
    holder = await rig.directory.holder("aliyun", rig.sts())
    with pytest.raises(KmsRefusedError, match="InvalidAccessKeyId"):
        await holder.secret("database", {})
    (rig.root / "token.txt").write_text("STS.id2:secret2:token2")
    assert (await holder.secret("database", {})).reveal() == b"s3cret"


async def test_refusals_carry_code_and_request_but_no_credential(rig: KmsRig) -> None:
    holder = await rig.directory.holder("aliyun", GATEWAY)
    with pytest.raises(KmsRefusedError) as caught:
        await holder.secret("absent", {})
    assert caught.value.code == "Forbidden.ResourceNotFound"
    assert caught.value.status == 404
    assert "mock-request" in str(caught.value)
    assert CLIENT_KEY_ID not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_one_busy_answer_is_tried_again_two_are_told(rig: KmsRig, status: int) -> None:
    holder = await rig.directory.holder("aliyun", RAM_ROLE)
    busy = (status, b'{"Code":"Throttling.User","Message":"slow down","RequestId":"r"}')
    rig.mock.answers.append(busy)
    assert (await holder.secret("database", {})).reveal() == b"s3cret"
    rig.mock.answers.extend([busy, busy])
    with pytest.raises(KmsRefusedError, match=r"Throttling\.User"):
        await holder.secret("database", {})


async def test_a_repeated_request_is_signed_anew(rig: KmsRig) -> None:
    """The service takes a nonce once, also where it then could not answer."""
    openapi, answered = rig.mock.openapi, rig.mock.openapi.answer

    def busy(parameters: Mapping[str, str], now: float) -> tuple[int, bytes]:
        answered(parameters, now)
        openapi.answer = answered  # type: ignore[method-assign]
        return 503, b""

    openapi.answer = busy  # type: ignore[method-assign]
    holder = await rig.directory.holder("aliyun", RAM_ROLE)
    assert (await holder.secret("database", {})).reveal() == b"s3cret"
    assert rig.mock.calls["GetSecretValue"] == 2


async def test_what_a_refused_signature_was_over_is_not_repeated(rig: KmsRig) -> None:
    message = "Not matched. server string to sign is:POST&%2F&SecurityToken%3Drole-token"
    refusal = json.dumps({"Code": "SignatureDoesNotMatch", "Message": message}).encode()
    rig.mock.answers.append((400, refusal))
    holder = await rig.directory.holder("aliyun", RAM_ROLE)
    with pytest.raises(KmsRefusedError, match=r"SignatureDoesNotMatch: Not matched\.") as caught:
        await holder.secret("database", {})
    assert "role-token" not in str(caught.value)


async def test_no_error_on_the_way_holds_the_token() -> None:
    """aiohttp's own error for an answer that is no HTTP holds the whole URL."""

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"garbage\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/?SecurityToken=role-token"
        question = kms_http.Question("POST", url, "asking", {})
        with pytest.raises(KmsUnreachableError) as caught:
            await kms_http.ask(lambda: question, None)
    told = "".join(traceback.format_exception(caught.value))
    assert "role-token" not in told + repr(question)


async def test_the_environment_cannot_make_tls_keys_leak(
    rig: KmsRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    places = AliyunPlaces(rig.credentials, rig.root, rig.mock.url + "/", rig.mock.url)
    for settings in (GATEWAY, RAM_ROLE):
        client = await KmsDirectory(KmsPlaces(places)).holder("aliyun", settings)
        assert isinstance(client, GatewayClient | OpenApiClient)
        assert client.tls.keylog_filename is None


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"SecretData":1}', b"\xff", b"{" * 5000])
async def test_an_answer_of_another_form_is_refused(rig: KmsRig, body: bytes) -> None:
    holder = await rig.directory.holder("aliyun", RAM_ROLE)
    rig.mock.answers.append((200, body))
    with pytest.raises(KmsAnswerError, match="SecretData"):
        await holder.secret("database", {})


async def test_an_endless_answer_is_cut_off(rig: KmsRig) -> None:
    holder = await rig.directory.holder("aliyun", GATEWAY)
    rig.mock.answers.append((200, b"x" * (kms_http.MAX_ANSWER + 1)))
    with pytest.raises(KmsAnswerError, match="longer than"):
        await holder.secret("database", {})


async def test_a_service_that_hangs_ends_in_an_error(
    rig: KmsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kms_http, "REQUEST_SECONDS", 0.1)
    holder = await rig.directory.holder("aliyun", GATEWAY)
    rig.mock.hang = True
    with pytest.raises(KmsUnreachableError, match="no complete answer"):
        await holder.secret("database", {})


async def test_a_caller_that_gives_up_leaves_nothing(rig: KmsRig) -> None:
    holder = await rig.directory.holder("aliyun", GATEWAY)
    rig.mock.hang = True
    call = asyncio.create_task(holder.secret("database", {}))
    while not rig.mock.calls:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_another_authority_is_not_trusted(rig: KmsRig, client_key: KmsClientKey) -> None:
    from mocktee.certs import provide_tls

    other = provide_tls(rig.root / "other")
    (rig.credentials / f"PrivateKmsCA_{INSTANCE}.pem").write_bytes(other.ca.read_bytes())
    places = AliyunPlaces(rig.credentials, rig.root, rig.mock.url + "/")
    holder = await KmsDirectory(KmsPlaces(places)).holder("aliyun", GATEWAY)
    with pytest.raises(KmsUnreachableError, match="authenticated"):
        await holder.secret("database", {})
    assert not rig.mock.calls


async def test_an_authority_of_nobody_is_an_error(rig: KmsRig) -> None:
    (rig.credentials / f"PrivateKmsCA_{INSTANCE}.pem").write_bytes(b"")
    places = AliyunPlaces(rig.credentials, rig.root, rig.mock.url + "/")
    with pytest.raises(KmsCredentialError, match="not usable PEM"):
        await KmsDirectory(KmsPlaces(places)).holder("aliyun", GATEWAY)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_off_is_named_by_the_service(
    tmp_path: Path, client_key: KmsClientKey, hours: int
) -> None:
    async with kms_rig(tmp_path, client_key, clock=lambda: time.time() + hours * 3600) as rig:
        for settings in (GATEWAY, RAM_ROLE):
            holder = await rig.directory.holder("aliyun", settings)
            with pytest.raises(KmsRefusedError, match="Expired"):
                await holder.secret("database", {})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"client_type": b'"other"'}, "provider_settings"),
        ({"client_type": b"1"}, "provider_settings"),
        ({"client_type": b'"client_key"'}, "client_key_id"),
        ({**GATEWAY, "client_key_id": b'"../../x"'}, "file name"),
        ({**GATEWAY, "kms_instance_id": b'"a/b"'}, "file name"),
        ({**GATEWAY, "kms_instance_id": b'"evil.example/#"'}, "file name"),
        ({}, "provider_settings"),
        ({"x": b'"' + b"y" * 20000 + b'"'}, "longer than"),
        (
            {"client_type": b'"sts_token"', "token_path": b'"/etc/shadow"', "region_id": b'"r"'},
            "not below",
        ),
        (
            {"client_type": b'"sts_token"', "token_path": b'"/x"', "region_id": b'"a.evil/"'},
            "region_id",
        ),
    ],
)
async def test_settings_that_cannot_be_used(
    rig: KmsRig, settings: dict[str, bytes], problem: str
) -> None:
    with pytest.raises(KmsRequestError, match=problem) as caught:
        await rig.directory.holder("aliyun", settings)
    assert "other" not in str(caught.value)


@pytest.mark.parametrize("provider", ["ehsm", "aws", "AWS", "other", "", "x" * 500])
async def test_other_providers_are_refused_by_name(rig: KmsRig, provider: str) -> None:
    with pytest.raises(KmsRequestError, match=r"absent|unknown"):
        await rig.directory.holder(provider, {})


async def test_envelopes_need_a_client_key(rig: KmsRig) -> None:
    with pytest.raises(KmsRequestError, match="envelope"):
        await rig.directory.decrypter("aliyun", RAM_ROLE)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("clientKey", None, "cannot be read"),
        ("clientKey", b"{}", "KeyId"),
        ("clientKey", b'{"KeyId":"k","PrivateKeyData":"AAAA"}', "PKCS#12"),
        ("clientKey", b"x" * 70000, "longer than"),
        ("password", b"wrong", "PKCS#12"),
        ("password", None, "cannot be read"),
    ],
)
async def test_credential_files_that_cannot_be_used(
    rig: KmsRig, name: str, content: bytes | None, problem: str
) -> None:
    path = rig.credentials / f"{name}_{CLIENT_KEY_ID}.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KmsCredentialError, match=problem) as caught:
        await rig.directory.holder("aliyun", GATEWAY)
    assert "AAAA" not in str(caught.value)


async def test_a_credential_that_is_a_link_is_not_followed(rig: KmsRig) -> None:
    path = rig.root / "token.txt"
    path.rename(rig.root / "elsewhere")
    path.symlink_to(rig.root / "elsewhere")
    holder = await rig.directory.holder("aliyun", rig.sts())
    with pytest.raises(KmsCredentialError):
        await holder.secret("database", {})


async def test_a_flipped_bit_does_not_open(rig: KmsRig) -> None:
    ciphertext, iv = rig.mock.keys.encrypt(KEY, b"k" * 32)
    decrypter = await rig.directory.decrypter("aliyun", GATEWAY)
    with pytest.raises(KmsRefusedError, match="Ciphertext"):
        await decrypter.decrypt(KEY, ciphertext[:-1] + bytes([ciphertext[-1] ^ 1]), iv_of(iv))
    for bad in ({}, {"iv": b'"*"'}, {"iv": b"3"}):
        with pytest.raises(KmsRequestError, match="iv"):
            await decrypter.decrypt(KEY, ciphertext, bad)


async def test_every_error_is_one_of_the_package(rig: KmsRig) -> None:
    rig.mock.roles.clear()
    holder = await rig.directory.holder("aliyun", RAM_ROLE)
    with pytest.raises(KmsError, match="role"):
        await holder.secret("database", {})
