"""Every stub reaches the method of the same name behind its table, with every field."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message

from protos import api_pb2, cguest_pb2, keyprovider_pb2, services, stubs, tables
from protos import attestation_agent_pb2 as aa
from protos.keyprovider_pb2 import KeyProviderKeyWrapProtocolInput as Wrapped
from protos.keyprovider_pb2 import KeyProviderKeyWrapProtocolOutput as Unwrapped
from tests.services.ttrpc.rig import PATIENCE_S, Rig
from ttrpc import CallContext, Client, Code, StatusError


class Everything:
    """Implements every servicer: keeps the request and answers with something recognisable."""

    def __init__(self) -> None:
        self.seen: Message | None = None
        self.metadata: dict[str, tuple[str, ...]] = {}

    async def get_evidence(
        self, request: aa.GetEvidenceRequest, context: CallContext
    ) -> aa.GetEvidenceResponse:
        self.seen = request
        return aa.GetEvidenceResponse(Evidence=b"evidence")

    async def get_additional_evidence(
        self, request: aa.GetAdditionalEvidenceRequest, context: CallContext
    ) -> aa.GetEvidenceResponse:
        self.seen = request
        return aa.GetEvidenceResponse(Evidence=b"more")

    async def get_token(
        self, request: aa.GetTokenRequest, context: CallContext
    ) -> aa.GetTokenResponse:
        self.seen = request
        self.metadata = {key: tuple(values) for key, values in context.metadata.items()}
        return aa.GetTokenResponse(Token=b"token")

    async def extend_runtime_measurement(
        self, request: aa.ExtendRuntimeMeasurementRequest, context: CallContext
    ) -> aa.ExtendRuntimeMeasurementResponse:
        self.seen = request
        return aa.ExtendRuntimeMeasurementResponse(Result=aa.NOT_ENABLED)

    async def get_tee_type(
        self, request: aa.GetTeeTypeRequest, context: CallContext
    ) -> aa.GetTeeTypeResponse:
        self.seen = request
        return aa.GetTeeTypeResponse(tee="tdx")

    async def get_additional_tees(
        self, request: aa.GetAdditionalTeesRequest, context: CallContext
    ) -> aa.GetAdditionalTeesResponse:
        self.seen = request
        return aa.GetAdditionalTeesResponse(additional_tees=["sample"])

    async def get_status(
        self, request: cguest_pb2.GetStatusRequest, context: CallContext
    ) -> cguest_pb2.AttestationStatus:
        self.seen = request
        return cguest_pb2.AttestationStatus(session="attested")

    async def attest(
        self, request: cguest_pb2.AttestRequest, context: CallContext
    ) -> cguest_pb2.AttestationStatus:
        self.seen = request
        return cguest_pb2.AttestationStatus(handshakes=2)

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, context: CallContext
    ) -> api_pb2.GetResourceResponse:
        self.seen = request
        return api_pb2.GetResourceResponse(Resource=b"resource")

    async def unseal_secret(
        self, request: api_pb2.UnsealSecretInput, context: CallContext
    ) -> api_pb2.UnsealSecretOutput:
        self.seen = request
        return api_pb2.UnsealSecretOutput(plaintext=b"plain")

    async def secure_mount(
        self, request: api_pb2.SecureMountRequest, context: CallContext
    ) -> api_pb2.SecureMountResponse:
        self.seen = request
        return api_pb2.SecureMountResponse()

    async def pull_image(
        self, request: api_pb2.ImagePullRequest, context: CallContext
    ) -> api_pb2.ImagePullResponse:
        self.seen = request
        return api_pb2.ImagePullResponse(manifest_digest="sha256:0")

    async def unwrap_key(self, request: Wrapped, context: CallContext) -> Unwrapped:
        self.seen = request
        return Unwrapped(KeyProviderKeyWrapProtocolOutput=b"{}")

    async def list_mounts(
        self, request: cguest_pb2.ListMountsRequest, context: CallContext
    ) -> cguest_pb2.ListMountsResponse:
        self.seen = request
        return cguest_pb2.ListMountsResponse(mounts=[cguest_pb2.Mount(mount_point="/m", pid=7)])

    async def unmount(
        self, request: cguest_pb2.UnmountRequest, context: CallContext
    ) -> cguest_pb2.UnmountResponse:
        self.seen = request
        return cguest_pb2.UnmountResponse()


@pytest.fixture
async def everything() -> Everything:
    return Everything()


@pytest.fixture
async def client(tmp_path: Path, everything: Everything) -> AsyncIterator[Client]:
    all_tables = [
        tables.attestation_agent_table(everything),
        tables.attestation_status_table(everything),
        tables.get_resource_table(everything),
        tables.sealed_secret_table(everything),
        tables.secure_mount_table(everything),
        tables.image_pull_table(everything),
        tables.key_provider_table(everything),
        tables.mount_table(everything),
    ]
    async with (
        Rig.running(tmp_path, tables=all_tables) as rig,
        await Client.connect(rig.path) as connected,
    ):
        yield connected


@pytest.mark.parametrize(
    ("ask", "sent", "answered"),
    [
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).get_evidence(b"data", timeout_s=PATIENCE_S),
            aa.GetEvidenceRequest(RuntimeData=b"data"),
            aa.GetEvidenceResponse(Evidence=b"evidence"),
            id="get-evidence",
        ),
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).get_additional_evidence(b"data"),
            aa.GetAdditionalEvidenceRequest(RuntimeData=b"data"),
            aa.GetEvidenceResponse(Evidence=b"more"),
            id="get-additional-evidence",
        ),
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).get_token("kbs"),
            aa.GetTokenRequest(TokenType="kbs"),
            aa.GetTokenResponse(Token=b"token"),
            id="get-token",
        ),
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).extend_runtime_measurement("d", "o", "c"),
            aa.ExtendRuntimeMeasurementRequest(Domain="d", Operation="o", Content="c"),
            aa.ExtendRuntimeMeasurementResponse(Result=aa.NOT_ENABLED),
            id="extend-default-register",
        ),
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).extend_runtime_measurement("d", "o", "c", 0),
            aa.ExtendRuntimeMeasurementRequest(
                Domain="d", Operation="o", Content="c", RegisterIndex=0
            ),
            aa.ExtendRuntimeMeasurementResponse(Result=aa.NOT_ENABLED),
            id="extend-register-0",
        ),
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).get_tee_type(),
            aa.GetTeeTypeRequest(),
            aa.GetTeeTypeResponse(tee="tdx"),
            id="get-tee-type",
        ),
        pytest.param(
            lambda c: stubs.AttestationAgentStub(c).get_additional_tees(),
            aa.GetAdditionalTeesRequest(),
            aa.GetAdditionalTeesResponse(additional_tees=["sample"]),
            id="get-additional-tees",
        ),
        pytest.param(
            lambda c: stubs.AttestationStatusStub(c).get_status(),
            cguest_pb2.GetStatusRequest(),
            cguest_pb2.AttestationStatus(session="attested"),
            id="get-status",
        ),
        pytest.param(
            lambda c: stubs.AttestationStatusStub(c).attest(force=True),
            cguest_pb2.AttestRequest(force=True),
            cguest_pb2.AttestationStatus(handshakes=2),
            id="attest",
        ),
        pytest.param(
            lambda c: stubs.GetResourceStub(c).get_resource("kbs:///a/b/c"),
            api_pb2.GetResourceRequest(ResourcePath="kbs:///a/b/c"),
            api_pb2.GetResourceResponse(Resource=b"resource"),
            id="get-resource",
        ),
        pytest.param(
            lambda c: stubs.SealedSecretStub(c).unseal_secret(b"sealed.x"),
            api_pb2.UnsealSecretInput(secret=b"sealed.x"),
            api_pb2.UnsealSecretOutput(plaintext=b"plain"),
            id="unseal-secret",
        ),
        pytest.param(
            lambda c: stubs.SecureMountStub(c).secure_mount("oss", {"a": "b"}, ["ro"], "/m"),
            api_pb2.SecureMountRequest(
                volume_type="oss", options={"a": "b"}, flags=["ro"], mount_point="/m"
            ),
            api_pb2.SecureMountResponse(),
            id="secure-mount",
        ),
        pytest.param(
            lambda c: stubs.ImagePullStub(c).pull_image("image", "/bundle"),
            api_pb2.ImagePullRequest(image_url="image", bundle_path="/bundle"),
            api_pb2.ImagePullResponse(manifest_digest="sha256:0"),
            id="pull-image",
        ),
        pytest.param(
            lambda c: stubs.KeyProviderStub(c).unwrap_key(b"{}"),
            Wrapped(KeyProviderKeyWrapProtocolInput=b"{}"),
            Unwrapped(KeyProviderKeyWrapProtocolOutput=b"{}"),
            id="unwrap-key",
        ),
        pytest.param(
            lambda c: stubs.MountStub(c).list_mounts(),
            cguest_pb2.ListMountsRequest(),
            cguest_pb2.ListMountsResponse(mounts=[cguest_pb2.Mount(mount_point="/m", pid=7)]),
            id="list-mounts",
        ),
        pytest.param(
            lambda c: stubs.MountStub(c).unmount("/m"),
            cguest_pb2.UnmountRequest(mount_point="/m"),
            cguest_pb2.UnmountResponse(),
            id="unmount",
        ),
    ],
)
async def test_stub_and_table_meet(
    client: Client,
    everything: Everything,
    ask: Callable[[Client], Awaitable[Message]],
    sent: Message,
    answered: Message,
) -> None:
    assert await ask(client) == answered
    assert everything.seen == sent
    assert type(everything.seen) is type(sent)


async def test_token_calls_carry_metadata(client: Client, everything: Everything) -> None:
    metadata = {"cguest-refused-token": ["ab" * 32]}
    await stubs.AttestationAgentStub(client).get_token("kbs", metadata=metadata)
    assert everything.metadata == {"cguest-refused-token": ("ab" * 32,)}


@pytest.mark.parametrize(
    ("service", "method", "request_", "response_type"),
    [
        pytest.param(
            services.ATTESTATION_AGENT, "BindInitData",
            aa.BindInitDataRequest(Digest=bytes(48)), aa.BindInitDataResponse,
            id="bind-init-data",
        ),
        pytest.param(
            services.KEY_PROVIDER, "WrapKey",
            keyprovider_pb2.KeyProviderKeyWrapProtocolInput(),
            keyprovider_pb2.KeyProviderKeyWrapProtocolOutput,
            id="wrap-key",
        ),
    ],
)  # fmt: skip
async def test_what_no_release_serves_is_not_found(
    client: Client, service: str, method: str, request_: Message, response_type: type[Message]
) -> None:
    with pytest.raises(StatusError) as caught:
        await client.call(service, method, request_, response_type)
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.message == f"/{service}/{method} is not supported"
