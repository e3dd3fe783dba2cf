"""Our stubs of the guest's services at servers in Go and Rust, whose answers show what arrived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos import attestation_agent_pb2 as aa
from protos import keyprovider_pb2, services
from protos.stubs import (
    AttestationAgentStub,
    GetResourceStub,
    ImagePullStub,
    KeyProviderStub,
    OlderGetResourceStub,
    SealedSecretStub,
    SecureMountStub,
)
from tests.interop.peers import PATIENCE_S, PeerProgram
from tests.interop.toolchains import build_peer
from ttrpc import Client, Code, StatusError

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(params=["go", "rust"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    peer = PeerProgram(build_peer(request.param))
    async with (
        peer.serving(tmp_path / "p"),
        await Client.connect(str(tmp_path / "p"), timeout_s=PATIENCE_S) as connected,
    ):
        yield connected


async def test_attestation_agent(client: Client) -> None:
    stub = AttestationAgentStub(client)
    data = bytes(range(64))
    reply = await stub.get_evidence(data, timeout_s=PATIENCE_S)
    assert reply.Evidence == b"evidence:" + data
    more = await stub.get_additional_evidence(data, timeout_s=PATIENCE_S)
    assert more.Evidence == b"more:" + data
    assert (await stub.get_token("kbs", timeout_s=PATIENCE_S)).Token == b"token:kbs"
    assert (await stub.get_tee_type(timeout_s=PATIENCE_S)).tee == "tdx"
    assert (await stub.get_additional_tees(timeout_s=PATIENCE_S)).additional_tees == ["one", "two"]


@pytest.mark.parametrize(
    ("register", "result"),
    [
        pytest.param(0, aa.RuntimeMeasurementResult.OK, id="register-0-is-one"),
        pytest.param(None, aa.RuntimeMeasurementResult.NOT_ENABLED, id="no-register"),
    ],
)
async def test_an_absent_register_is_not_register_0(
    client: Client, register: int | None, result: aa.RuntimeMeasurementResult.ValueType
) -> None:
    reply = await AttestationAgentStub(client).extend_runtime_measurement(
        "domain", "operation", "content", register, timeout_s=PATIENCE_S
    )
    assert reply.Result == result


async def test_data_hub(client: Client) -> None:
    resource = await GetResourceStub(client).get_resource("kbs:///a/b/c", timeout_s=PATIENCE_S)
    assert resource.Resource == b"kbs:///a/b/c"
    secret = await SealedSecretStub(client).unseal_secret(b"sealed.x", timeout_s=PATIENCE_S)
    assert secret.plaintext == b"unsealed:sealed.x"
    mounted = await SecureMountStub(client).secure_mount(
        "oss", {"b": "2", "a": "ü"}, ["ro", "nodev"], "/mnt", timeout_s=PATIENCE_S
    )
    assert mounted.mount_path == "oss|a=ü,b=2|ro,nodev|/mnt"
    pulled = await ImagePullStub(client).pull_image("image", "/bundle", timeout_s=PATIENCE_S)
    assert pulled.manifest_digest == "image|/bundle"
    key = await KeyProviderStub(client).unwrap_key(b"\x00packet\xff", timeout_s=PATIENCE_S)
    assert key.KeyProviderKeyWrapProtocolOutput == b"key:\x00packet\xff"
    older = await OlderGetResourceStub(client).get_resource(
        "/a/b/c", kbc_name="cc_kbc", kbs_uri="null", timeout_s=PATIENCE_S
    )
    assert older.Resource == b"/a/b/c|cc_kbc|null"


async def test_refusals(client: Client) -> None:
    with pytest.raises(StatusError) as token:
        await AttestationAgentStub(client).get_token("other", timeout_s=PATIENCE_S)
    assert (token.value.code, token.value.message) == (Code.INVALID_ARGUMENT, "no token other")
    with pytest.raises(StatusError) as bound:
        await client.call(
            services.ATTESTATION_AGENT, "BindInitData", aa.BindInitDataRequest(Digest=b"d"),
            aa.BindInitDataResponse, timeout_s=PATIENCE_S,
        )  # fmt: skip
    assert bound.value.code is Code.NOT_FOUND
    assert bound.value.message == f"/{services.ATTESTATION_AGENT}/BindInitData is not supported"
    with pytest.raises(StatusError) as wrapped:
        await client.call(
            services.KEY_PROVIDER, "WrapKey", keyprovider_pb2.KeyProviderKeyWrapProtocolInput(),
            keyprovider_pb2.KeyProviderKeyWrapProtocolOutput, timeout_s=PATIENCE_S,
        )  # fmt: skip
    assert wrapped.value.message == f"/{services.KEY_PROVIDER}/WrapKey is not supported"
