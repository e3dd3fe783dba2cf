"""Typed callers of the services: plain arguments in, reply messages out.

Every method takes ``timeout_s`` (seconds; ``None`` for no limit) and raises what
:meth:`ttrpc.Client.call` raises. A stub borrows its client and closes nothing. Replies may hold
secrets: wrap them in ``secrecy.Secret`` at once and never log a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protos import (
    api_pb2,
    attestation_agent_pb2,
    cguest_pb2,
    getresource_pb2,
    keyprovider_pb2,
    services,
)
from ttrpc import Client, Metadata


class AttestationAgentStub:
    """Calls ``attestation_agent.AttestationAgentService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get_evidence(
        self,
        runtime_data: bytes,
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> attestation_agent_pb2.GetEvidenceResponse:
        return await self._client.call(
            services.ATTESTATION_AGENT,
            "GetEvidence",
            attestation_agent_pb2.GetEvidenceRequest(RuntimeData=runtime_data),
            attestation_agent_pb2.GetEvidenceResponse,
            timeout_s=timeout_s,
            metadata=metadata,
        )

    async def get_additional_evidence(
        self,
        runtime_data: bytes,
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> attestation_agent_pb2.GetEvidenceResponse:
        return await self._client.call(
            services.ATTESTATION_AGENT,
            "GetAdditionalEvidence",
            attestation_agent_pb2.GetAdditionalEvidenceRequest(RuntimeData=runtime_data),
            attestation_agent_pb2.GetEvidenceResponse,
            timeout_s=timeout_s,
            metadata=metadata,
        )

    async def get_token(
        self,
        token_type: str,
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> attestation_agent_pb2.GetTokenResponse:
        return await self._client.call(
            services.ATTESTATION_AGENT,
            "GetToken",
            attestation_agent_pb2.GetTokenRequest(TokenType=token_type),
            attestation_agent_pb2.GetTokenResponse,
            timeout_s=timeout_s,
            metadata=metadata,
        )

    async def extend_runtime_measurement(
        self,
        domain: str,
        operation: str,
        content: str,
        register_index: int | None = None,
        *,
        timeout_s: float | None = None,
    ) -> attestation_agent_pb2.ExtendRuntimeMeasurementResponse:
        """``register_index`` ``None`` leaves the choice to the agent; 0 is a register."""
        request = attestation_agent_pb2.ExtendRuntimeMeasurementRequest(
            Domain=domain, Operation=operation, Content=content, RegisterIndex=register_index
        )
        return await self._client.call(
            services.ATTESTATION_AGENT,
            "ExtendRuntimeMeasurement",
            request,
            attestation_agent_pb2.ExtendRuntimeMeasurementResponse,
            timeout_s=timeout_s,
        )

    async def get_tee_type(
        self, *, timeout_s: float | None = None
    ) -> attestation_agent_pb2.GetTeeTypeResponse:
        return await self._client.call(
            services.ATTESTATION_AGENT,
            "GetTeeType",
            attestation_agent_pb2.GetTeeTypeRequest(),
            attestation_agent_pb2.GetTeeTypeResponse,
            timeout_s=timeout_s,
        )

    async def get_additional_tees(
        self, *, timeout_s: float | None = None
    ) -> attestation_agent_pb2.GetAdditionalTeesResponse:
        return await self._client.call(
            services.ATTESTATION_AGENT,
            "GetAdditionalTees",
            attestation_agent_pb2.GetAdditionalTeesRequest(),
            attestation_agent_pb2.GetAdditionalTeesResponse,
            timeout_s=timeout_s,
        )


class AttestationStatusStub:
    """Calls ``cguest.v1.AttestationStatusService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get_status(
        self, *, with_failure: bool = False, timeout_s: float | None = None
    ) -> cguest_pb2.AttestationStatus:
        return await self._client.call(
            services.ATTESTATION_STATUS,
            "GetStatus",
            cguest_pb2.GetStatusRequest(with_failure=with_failure),
            cguest_pb2.AttestationStatus,
            timeout_s=timeout_s,
        )

    async def attest(
        self, *, force: bool = False, timeout_s: float | None = None
    ) -> cguest_pb2.AttestationStatus:
        return await self._client.call(
            services.ATTESTATION_STATUS,
            "Attest",
            cguest_pb2.AttestRequest(force=force),
            cguest_pb2.AttestationStatus,
            timeout_s=timeout_s,
        )


class GetResourceStub:
    """Calls ``api.GetResourceService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get_resource(
        self, uri: str, *, timeout_s: float | None = None
    ) -> api_pb2.GetResourceResponse:
        return await self._client.call(
            services.GET_RESOURCE,
            "GetResource",
            api_pb2.GetResourceRequest(ResourcePath=uri),
            api_pb2.GetResourceResponse,
            timeout_s=timeout_s,
        )


class OlderGetResourceStub:
    """Calls ``getresource.GetResourceService`` of the CoCo 0.8 era."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get_resource(
        self, path: str, *, kbc_name: str, kbs_uri: str, timeout_s: float | None = None
    ) -> getresource_pb2.GetResourceResponse:
        return await self._client.call(
            services.GET_RESOURCE_V0_8,
            "GetResource",
            getresource_pb2.GetResourceRequest(ResourcePath=path, KbcName=kbc_name, KbsUri=kbs_uri),
            getresource_pb2.GetResourceResponse,
            timeout_s=timeout_s,
        )


class SealedSecretStub:
    """Calls ``api.SealedSecretService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def unseal_secret(
        self, sealed: bytes, *, timeout_s: float | None = None
    ) -> api_pb2.UnsealSecretOutput:
        return await self._client.call(
            services.SEALED_SECRET,
            "UnsealSecret",
            api_pb2.UnsealSecretInput(secret=sealed),
            api_pb2.UnsealSecretOutput,
            timeout_s=timeout_s,
        )


class SecureMountStub:
    """Calls ``api.SecureMountService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def secure_mount(
        self,
        volume_type: str,
        options: Mapping[str, str],
        flags: Sequence[str],
        mount_point: str,
        *,
        timeout_s: float | None = None,
    ) -> api_pb2.SecureMountResponse:
        request = api_pb2.SecureMountRequest(
            volume_type=volume_type, options=options, flags=flags, mount_point=mount_point
        )
        return await self._client.call(
            services.SECURE_MOUNT,
            "SecureMount",
            request,
            api_pb2.SecureMountResponse,
            timeout_s=timeout_s,
        )


class ImagePullStub:
    """Calls ``api.ImagePullService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def pull_image(
        self, image_url: str, bundle_path: str, *, timeout_s: float | None = None
    ) -> api_pb2.ImagePullResponse:
        return await self._client.call(
            services.IMAGE_PULL,
            "PullImage",
            api_pb2.ImagePullRequest(image_url=image_url, bundle_path=bundle_path),
            api_pb2.ImagePullResponse,
            timeout_s=timeout_s,
        )


class KeyProviderStub:
    """Calls ``keyprovider.KeyProviderService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def unwrap_key(
        self, packet: bytes, *, timeout_s: float | None = None
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
        request = keyprovider_pb2.KeyProviderKeyWrapProtocolInput(
            KeyProviderKeyWrapProtocolInput=packet
        )
        return await self._client.call(
            services.KEY_PROVIDER,
            "UnWrapKey",
            request,
            keyprovider_pb2.KeyProviderKeyWrapProtocolOutput,
            timeout_s=timeout_s,
        )


class MountStub:
    """Calls ``cguest.v1.MountService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_mounts(self, *, timeout_s: float | None = None) -> cguest_pb2.ListMountsResponse:
        return await self._client.call(
            services.MOUNT,
            "ListMounts",
            cguest_pb2.ListMountsRequest(),
            cguest_pb2.ListMountsResponse,
            timeout_s=timeout_s,
        )

    async def unmount(
        self, mount_point: str, *, timeout_s: float | None = None
    ) -> cguest_pb2.UnmountResponse:
        return await self._client.call(
            services.MOUNT,
            "Unmount",
            cguest_pb2.UnmountRequest(mount_point=mount_point),
            cguest_pb2.UnmountResponse,
            timeout_s=timeout_s,
        )


class HubStatusStub:
    """Calls ``cguest.v1.HubStatusService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get_status(self, *, timeout_s: float | None = None) -> cguest_pb2.HubStatus:
        return await self._client.call(
            services.HUB_STATUS,
            "GetStatus",
            cguest_pb2.GetHubStatusRequest(),
            cguest_pb2.HubStatus,
            timeout_s=timeout_s,
        )


class ContainerStub:
    """Calls ``cguest.v1.ContainerService``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def report_refusal(
        self, container_id: str, subject: str, reason: str, *, timeout_s: float | None = None
    ) -> cguest_pb2.ReportRefusalResponse:
        request = cguest_pb2.ReportRefusalRequest(
            container_id=container_id, subject=subject, reason=reason
        )
        return await self._client.call(
            services.CONTAINER,
            "ReportRefusal",
            request,
            cguest_pb2.ReportRefusalResponse,
            timeout_s=timeout_s,
        )
