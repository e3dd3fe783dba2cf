"""UnWrapKey on the hub's socket: what ocicrypt-rs, and skopeo's library, send and get back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from cdh.hub import ConfidentialDataHub, MountSettings
from cdh.mounts.spec import MountPolicy
from cdh.mounts.supervisor import MountSupervisor
from cdh.sealed.unseal import Unsealer
from cdh.service import hub_tables
from kbs import PolicyDeniedError, ResourceUri
from lifecycle import UnixAddress, listen_unix
from protos import keyprovider_pb2, services
from protos.stubs import KeyProviderStub
from secrecy import Secret
from serving.doors import GrpcDoor, LoopbackAddress
from serving.grpc_tables import open_grpc
from tests.services.grpc_peers import OPTIONS as OVER_GRPC
from tests.wire.keywrap_samples import (
    KEK,
    OPTIONS,
    b64,
    ctr_packet,
    gcm_packet,
    reply_options,
    request_for,
)
from ttrpc import Client, Code, Server, StatusError

PARSE_FAILED = "[ERROR] UnwrapKey Parse request failed"
UNWRAP_FAILED = "[CDH] [ERROR]: Decrypt Image (UnwrapKey) failed"
OTHER = b"another key of 32 bytes, as it is"[:32]


@dataclass
class Keys:
    """Stands for the key broker, and remembers what it was asked for."""

    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked.append(str(uri))
        if str(uri) not in self.contents:
            raise PolicyDeniedError(401, "PolicyDeny", "no", attempted=f"fetching {uri}")
        return Secret(self.contents[str(uri)])


@pytest.fixture
def keys() -> Keys:
    path = "default/image-kek/test-1"
    return Keys(
        {
            f"kbs:///{path}": KEK,
            f"kbs+pkcs11:///{path}": KEK,
            "kbs:///default/key/short": b"short",
            "kbs:///default/key/other": OTHER,
        }
    )


@pytest.fixture
def hub(tmp_path: Path, keys: Keys) -> ConfidentialDataHub:
    mounts = MountSupervisor(command=(sys.executable, "-c", ""))
    settings = MountSettings(MountPolicy((str(tmp_path),)), ca_pem=None, memory_bytes=64 << 20)
    return ConfidentialDataHub(keys, Unsealer(keys, None), mounts, settings)


@pytest.fixture
async def client(tmp_path: Path, hub: ConfidentialDataHub) -> AsyncIterator[Client]:
    address = UnixAddress(str(tmp_path / "cdh.sock"))
    with await listen_unix(address) as listener:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(Server(hub_tables(hub)).serve(listener.sock))
            async with await Client.connect(address.path) as client:
                yield client
            serving.cancel()


async def _unwrap(client: Client, request: bytes) -> bytes:
    reply = await KeyProviderStub(client).unwrap_key(request, timeout_s=20)
    return reply_options(reply.KeyProviderKeyWrapProtocolOutput)


async def _refused(client: Client, request: bytes) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await _unwrap(client, request)
    error = caught.value
    assert error.code is Code.INTERNAL
    shown = error.message.encode()
    for secret in (KEK, OPTIONS[:24], OTHER):
        assert secret not in shown and b64(secret).encode() not in shown
    return error


@pytest.mark.parametrize(
    ("packet", "asked"),
    [
        (gcm_packet(), "kbs:///default/image-kek/test-1"),
        (ctr_packet(), "kbs:///default/image-kek/test-1"),
        (gcm_packet(kid="/default/image-kek/test-1"), "kbs:///default/image-kek/test-1"),
        (
            gcm_packet(kid="kbs+pkcs11:///default/image-kek/test-1"),
            "kbs+pkcs11:///default/image-kek/test-1",
        ),
    ],
    ids=["gcm", "ctr", "no scheme", "plugin"],
)
async def test_a_key_is_unwrapped(
    client: Client, keys: Keys, packet: dict[str, Any], asked: str
) -> None:
    assert await _unwrap(client, request_for(packet)) == OPTIONS
    assert keys.asked == [asked]


async def test_the_broker_is_asked_each_time(client: Client, keys: Keys) -> None:
    for _ in range(2):
        await _unwrap(client, request_for(gcm_packet()))
    assert len(keys.asked) == 2


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"{}", b"\xff\xfe", request_for({}, keyunwrapparams={"annotation": "not base64!"})],
    ids=["nothing", "empty", "not text", "annotation"],
)
async def test_what_cannot_be_parsed(client: Client, keys: Keys, request_bytes: bytes) -> None:
    error = await _refused(client, request_bytes)
    assert error.message.startswith(f"{PARSE_FAILED}: unwrap request, ")
    assert not keys.asked


@pytest.mark.parametrize(
    ("packet", "cause"),
    [
        ({}, "annotation packet, JSON: not an object"),
        (gcm_packet(provider="aliyun"), "annotation packet, provider: 'aliyun' is not served here"),
        (gcm_packet(version="2"), "annotation packet, version: '2' is not served here"),
        (gcm_packet(wrap_type="RSA"), "annotation packet, wrap_type: 'RSA' is not served here"),
        (gcm_packet() | {"iv": b64(b"x")}, "annotation packet, iv: A256GCM needs 12 bytes, got 1"),
    ],
)
async def test_a_packet_is_judged_before_its_key_is_fetched(
    client: Client, keys: Keys, packet: dict[str, Any], cause: str
) -> None:
    error = await _refused(client, request_for(packet))
    assert error.message.startswith(f"{UNWRAP_FAILED}: {cause}")
    assert not keys.asked


@pytest.mark.parametrize(
    ("packet", "cause", "refused"),
    [
        (gcm_packet(kid="x:///a/b/c"), "", False),
        (gcm_packet(kid="kbs:///default/key/absent"), "fetching kbs:///default/key/absent", True),
        (
            gcm_packet(kid="kbs:///default/key/short"),
            "key encryption key 'kbs:///default/key/short': expected 32 bytes, got 5",
            False,
        ),
        (
            gcm_packet(kid="kbs:///default/key/other"),
            "wrapped key does not open with the key 'kbs:///default/key/other'",
            True,
        ),
        (
            ctr_packet(kid="kbs:///default/key/other"),
            "wrapped key does not open with the key 'kbs:///default/key/other'",
            True,
        ),
    ],
    ids=["kid", "absent", "short", "wrong key", "wrong key, ctr"],
)
async def test_a_key_that_does_not_fit(
    client: Client, packet: dict[str, Any], cause: str, refused: bool
) -> None:
    error = await _refused(client, request_for(packet))
    assert error.message.startswith(f"{UNWRAP_FAILED}: {cause}")
    assert error.refused is refused


async def test_wrapping_is_not_for_guests(client: Client) -> None:
    message = keyprovider_pb2.KeyProviderKeyWrapProtocolInput
    with pytest.raises(StatusError) as caught:
        await client.call(
            services.KEY_PROVIDER,
            "WrapKey",
            message(KeyProviderKeyWrapProtocolInput=b"{}"),
            keyprovider_pb2.KeyProviderKeyWrapProtocolOutput,
        )
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.message == "/keyprovider.KeyProviderService/WrapKey is not supported"


async def test_the_same_over_grpc(tmp_path: Path, hub: ConfidentialDataHub) -> None:
    """As key-providers.attestation-agent.grpc of an ocicrypt configuration has it called."""
    method = keyprovider_pb2.KeyProviderKeyWrapProtocolInput
    door = GrpcDoor(LoopbackAddress("127.0.0.1", 0))
    async with open_grpc(hub_tables(hub), door) as listener:
        target = f"127.0.0.1:{listener.port}"
        async with grpc.aio.insecure_channel(target, options=OVER_GRPC) as channel:
            unwrap = channel.unary_unary(
                "/keyprovider.KeyProviderService/UnWrapKey",
                request_serializer=method.SerializeToString,
                response_deserializer=keyprovider_pb2.KeyProviderKeyWrapProtocolOutput.FromString,
            )
            request = request_for(gcm_packet())
            reply = await unwrap(method(KeyProviderKeyWrapProtocolInput=request))
            assert reply_options(reply.KeyProviderKeyWrapProtocolOutput) == OPTIONS
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unwrap(method())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert (caught.value.details() or "").startswith(PARSE_FAILED)


async def test_shared_requests_are_answered(client: Client, shared_vectors: Path) -> None:
    path = shared_vectors / "images" / "keyprovider" / "envelopes.json"
    vectors = json.loads(path.read_text())
    for case in vectors["cases"]:
        if case["expect"].startswith("hub answers unwrap-reply"):
            options = await _unwrap(client, json.dumps(case["json"]).encode())
            assert options.decode() == vectors["private_options"], case["name"]
