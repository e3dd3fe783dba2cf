"""The clients of Go and Rust at the guest's real doors: every method, its answer or refusal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.message import Message

from demo.mounting import oss_options, sealed_oss_keys
from demo.stage import Stage
from protos import api_pb2 as api
from protos import attestation_agent_pb2 as aa
from protos import getresource_pb2, keyprovider_pb2, services
from tests.interop.peer_pb2 import Outcome
from tests.interop.peers import PeerProgram, call
from tests.interop.toolchains import build_peer
from tests.wire.keywrap_samples import (
    KEK,
    OPTIONS,
    gcm_packet,
    older_request_for,
    reply_options,
    request_for,
)
from ttrpc import Code

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
AGENT = "[ERROR:attestation-agent] "
HUB = "[CDH] [ERROR]: "
KEY_URI = "kbs:///interop/kek/1"
WRAP_UNSUPPORTED = "/keyprovider.KeyProviderService/WrapKey is not supported"
BIND_UNSUPPORTED = "/attestation_agent.AttestationAgentService/BindInitData is not supported"
Packet = keyprovider_pb2.KeyProviderKeyWrapProtocolInput


@pytest.fixture(scope="module", params=["go", "rust"])
def peer(request: pytest.FixtureRequest) -> PeerProgram:
    return PeerProgram(build_peer(request.param))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    """The daemon on the mock TEE, with the doors of the 0.8 era."""
    async with Stage.open(latency=0.0) as opened:
        text = opened.config.read_text()
        doors = "".join(
            f'{name}_socket = "unix://{door(opened, name)}"\n'
            for name in ("keyprovider", "getresource")
        )
        opened.config.write_text(text.replace("[agent]\n", f"[agent]\n{doors}", 1))
        await opened.harness.put_resource("interop/kek/1", KEK)
        await opened.harness.put_resource("interop/text/1", b"the resource")
        await opened.restart()
        yield opened


def door(stage: Stage, name: str) -> Path:
    return stage.hub_socket.parent / f"{name}.sock"


async def ask(
    peer: PeerProgram, socket: Path, service: str, method: str, request: Message
) -> Outcome:
    (outcome,) = await peer.calls(socket, call(service, method, request, timeout_ms=30_000))
    return outcome


async def agent(peer: PeerProgram, stage: Stage, method: str, request: Message) -> Outcome:
    return await ask(peer, stage.agent_socket, services.ATTESTATION_AGENT, method, request)


async def older(peer: PeerProgram, stage: Stage, **fields: str) -> Outcome:
    fields = {"KbcName": "cc_kbc", "KbsUri": stage.harness.kbs_url} | fields
    request = getresource_pb2.GetResourceRequest(**fields)
    socket = door(stage, "getresource")
    return await ask(peer, socket, services.GET_RESOURCE_V0_8, "GetResource", request)


def answer(outcome: Outcome) -> bytes:
    assert (outcome.code, outcome.text) == (0, "")
    (reply,) = outcome.replies
    return reply


async def test_the_agent_answers(peer: PeerProgram, stage: Stage) -> None:
    data = bytes(range(64))
    reply = await agent(peer, stage, "GetEvidence", aa.GetEvidenceRequest(RuntimeData=data))
    evidence = json.loads(aa.GetEvidenceResponse.FromString(answer(reply)).Evidence)
    assert {"quote", "cc_eventlog"} <= set(evidence)
    more = aa.GetAdditionalEvidenceRequest(RuntimeData=data)
    reply = await agent(peer, stage, "GetAdditionalEvidence", more)
    assert aa.GetEvidenceResponse.FromString(answer(reply)).Evidence == b""
    reply = await agent(peer, stage, "GetToken", aa.GetTokenRequest(TokenType="kbs"))
    token = json.loads(aa.GetTokenResponse.FromString(answer(reply)).Token)
    assert token["token"].count(".") == 2
    reply = await agent(peer, stage, "GetTeeType", aa.GetTeeTypeRequest())
    assert aa.GetTeeTypeResponse.FromString(answer(reply)).tee == "tdx"
    reply = await agent(peer, stage, "GetAdditionalTees", aa.GetAdditionalTeesRequest())
    assert not aa.GetAdditionalTeesResponse.FromString(answer(reply)).additional_tees
    measured = aa.ExtendRuntimeMeasurementRequest(
        Domain="interop", Operation="test", Content="one line", RegisterIndex=17
    )
    reply = await agent(peer, stage, "ExtendRuntimeMeasurement", measured)
    result = aa.ExtendRuntimeMeasurementResponse.FromString(answer(reply)).Result
    assert result == aa.RuntimeMeasurementResult.OK


@pytest.mark.parametrize(
    ("method", "request_", "code", "text"),
    [
        pytest.param(
            "GetEvidence", aa.GetEvidenceRequest(RuntimeData=bytes(65)), Code.INTERNAL,
            AGENT + "AA-KBC get evidence failed: runtime data: expected at most 64 bytes, got 65"
            " (send a digest of your data, for example SHA-512)", id="evidence-too-long",
        ),
        pytest.param(
            "GetToken", aa.GetTokenRequest(TokenType="nope"), Code.INTERNAL,
            AGENT + "AA-KBC get token failed: token of type 'nope': unknown"
            " (ask for a token of type kbs)", id="token-kind",
        ),
        pytest.param(
            "ExtendRuntimeMeasurement",
            aa.ExtendRuntimeMeasurementRequest(Domain="d", Operation="o", Content="a\nb"),
            Code.INTERNAL, AGENT + "AA extend runtime measurement failed: event content:"
            " expected no line feed, got one", id="two-lines",
        ),
        pytest.param("BindInitData", aa.BindInitDataRequest(Digest=b"d"), Code.NOT_FOUND,
                     BIND_UNSUPPORTED, id="bind-init-data"),
        pytest.param("NoSuch", aa.GetTeeTypeRequest(), Code.UNIMPLEMENTED, "NoSuch method",
                     id="unknown-method"),
    ],
)  # fmt: skip
async def test_the_agent_refuses(
    *, peer: PeerProgram, stage: Stage, method: str, request_: Message, code: Code, text: str
) -> None:
    outcome = await agent(peer, stage, method, request_)
    assert (outcome.code, outcome.text) == (code, text)


async def test_the_hub_answers(peer: PeerProgram, stage: Stage) -> None:
    hub = stage.hub_socket
    wanted = api.GetResourceRequest(ResourcePath="kbs:///interop/text/1")
    reply = await ask(peer, hub, services.GET_RESOURCE, "GetResource", wanted)
    assert api.GetResourceResponse.FromString(answer(reply)).Resource == b"the resource"
    packet = Packet(KeyProviderKeyWrapProtocolInput=request_for(gcm_packet(kid=KEY_URI)))
    reply = await ask(peer, hub, services.KEY_PROVIDER, "UnWrapKey", packet)
    assert unwrapped(reply) == OPTIONS


def unwrapped(outcome: Outcome) -> bytes:
    reply = keyprovider_pb2.KeyProviderKeyWrapProtocolOutput.FromString(answer(outcome))
    return reply_options(reply.KeyProviderKeyWrapProtocolOutput)


async def test_the_hub_unseals(peer: PeerProgram, stage: Stage) -> None:
    sealed, _ = await sealed_oss_keys(stage)
    request: Message = api.UnsealSecretInput(secret=sealed.encode())
    reply = await ask(peer, stage.hub_socket, services.SEALED_SECRET, "UnsealSecret", request)
    plaintext = api.UnsealSecretOutput.FromString(answer(reply)).plaintext
    request = api.GetResourceRequest(ResourcePath="kbs:///default/oss/access-key-id")
    reply = await ask(peer, stage.hub_socket, services.GET_RESOURCE, "GetResource", request)
    assert plaintext == api.GetResourceResponse.FromString(answer(reply)).Resource != b""


async def test_the_hub_mounts(peer: PeerProgram, stage: Stage) -> None:
    key_id, key = await sealed_oss_keys(stage)
    point = stage.folder / "mnt" / peer.path.name
    request = api.SecureMountRequest(
        volume_type="alibaba-cloud-oss",
        options={
            "akId": key_id, "akSecret": key, "bucket": stage.harness.bucket, "path": "/",
            "url": stage.harness.oss_endpoint, "readonly": "false", "targetPath": "",
            "otherOpts": oss_options(stage), "volumeId": "interop",
        },
        mount_point=str(point),
    )  # fmt: skip
    reply = await ask(peer, stage.hub_socket, services.SECURE_MOUNT, "SecureMount", request)
    assert api.SecureMountResponse.FromString(answer(reply)).mount_path == str(point)
    assert point.is_mount()
    assert (await stage.cguest("mount", "remove", str(point))).code == 0


@pytest.mark.parametrize(
    ("service", "method", "request_", "code", "text"),
    [
        pytest.param(
            services.GET_RESOURCE, "GetResource", api.GetResourceRequest(ResourcePath="http://a/b"),
            Code.INTERNAL, HUB + "Get Resource failed: reading a KBS resource URI: 'http://a/b':"
            " scheme must be kbs or kbs+<plugin>; hint: write kbs:///<repository>/<type>/<tag>",
            id="resource-uri",
        ),
        pytest.param(
            services.SEALED_SECRET, "UnsealSecret", api.UnsealSecretInput(secret=b"nonsense"),
            Code.INTERNAL, HUB + "Unseal Secret failed: sealed secret, text: expected"
            " header.payload.signature, got 1 sections (pass the whole text that the seal command"
            " printed)", id="not-sealed",
        ),
        pytest.param(
            services.SECURE_MOUNT, "SecureMount",
            api.SecureMountRequest(volume_type="no-such", mount_point="/x"), Code.INTERNAL,
            HUB + "Secure Mount failed: secure mount, volume_type no-such: unknown (available:"
            " alibaba-cloud-oss)", id="volume-type",
        ),
        pytest.param(
            services.IMAGE_PULL, "PullImage", api.ImagePullRequest(image_url="x"), Code.NOT_FOUND,
            "/api.ImagePullService/PullImage is not supported", id="pull-image",
        ),
        pytest.param(services.KEY_PROVIDER, "WrapKey", Packet(), Code.NOT_FOUND, WRAP_UNSUPPORTED,
                     id="wrap-key"),
        pytest.param(services.GET_RESOURCE, "NoSuch", Packet(), Code.UNIMPLEMENTED,
                     "NoSuch method", id="unknown-method"),
        pytest.param(
            services.ATTESTATION_AGENT, "GetTeeType", aa.GetTeeTypeRequest(),
            Code.INVALID_ARGUMENT, f"{services.ATTESTATION_AGENT} service does not exist",
            id="unknown-service",
        ),
    ],
)  # fmt: skip
async def test_the_hub_refuses(
    *,
    peer: PeerProgram,
    stage: Stage,
    service: str,
    method: str,
    request_: Message,
    code: Code,
    text: str,
) -> None:
    outcome = await ask(peer, stage.hub_socket, service, method, request_)
    assert (outcome.code, outcome.text) == (code, text)


async def test_the_doors_of_the_older_era(peer: PeerProgram, stage: Stage) -> None:
    socket = door(stage, "keyprovider")
    refused = await ask(peer, socket, services.KEY_PROVIDER, "WrapKey", Packet())
    assert (refused.code, refused.text) == (
        Code.UNIMPLEMENTED, "WrapKey API of attestation-agent is unimplemented!",
    )  # fmt: skip
    packet = older_request_for(gcm_packet(kid=KEY_URI), f"cc_kbc::{stage.harness.kbs_url}")
    request = Packet(KeyProviderKeyWrapProtocolInput=packet)
    assert (
        unwrapped(await ask(peer, socket, services.KEY_PROVIDER, "UnWrapKey", request)) == OPTIONS
    )
    reply = await older(peer, stage, ResourcePath="/interop/text/1")
    found = getresource_pb2.GetResourceResponse.FromString(answer(reply))
    assert found.Resource == b"the resource"
    other = await older(peer, stage, ResourcePath="/interop/text/1", KbcName="other_kbc")
    assert other.code == Code.INTERNAL
    assert other.text.startswith(AGENT + "AA-KBC get resource failed: ")
