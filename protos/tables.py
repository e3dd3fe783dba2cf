"""What a server implements, as protocols, and the table that binds an implementation to names.

A servicer takes and returns messages and raises :class:`ttrpc.StatusError`; it knows nothing of
frames. Methods of the interface that no release of the reference serves over ttRPC are bound to
their refusal here, so that no servicer has to repeat it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn, Protocol

from protos import (
    api_pb2,
    attestation_agent_pb2,
    cguest_pb2,
    getresource_pb2,
    keyprovider_pb2,
    services,
)
from ttrpc import CallContext, Code, Method, ServiceTable, StatusError, unsupported


class AttestationAgentServicer(Protocol):
    """``attestation_agent.AttestationAgentService``."""

    async def get_evidence(
        self, request: attestation_agent_pb2.GetEvidenceRequest, context: CallContext
    ) -> attestation_agent_pb2.GetEvidenceResponse: ...

    async def get_additional_evidence(
        self, request: attestation_agent_pb2.GetAdditionalEvidenceRequest, context: CallContext
    ) -> attestation_agent_pb2.GetEvidenceResponse: ...

    async def get_token(
        self, request: attestation_agent_pb2.GetTokenRequest, context: CallContext
    ) -> attestation_agent_pb2.GetTokenResponse: ...

    async def extend_runtime_measurement(
        self, request: attestation_agent_pb2.ExtendRuntimeMeasurementRequest, context: CallContext
    ) -> attestation_agent_pb2.ExtendRuntimeMeasurementResponse: ...

    async def get_tee_type(
        self, request: attestation_agent_pb2.GetTeeTypeRequest, context: CallContext
    ) -> attestation_agent_pb2.GetTeeTypeResponse: ...

    async def get_additional_tees(
        self, request: attestation_agent_pb2.GetAdditionalTeesRequest, context: CallContext
    ) -> attestation_agent_pb2.GetAdditionalTeesResponse: ...


class InitDataServicer(Protocol):
    """``BindInitData``, which the reference serves over gRPC only."""

    async def bind_init_data(
        self, request: attestation_agent_pb2.BindInitDataRequest, context: CallContext
    ) -> attestation_agent_pb2.BindInitDataResponse: ...


class AttestationStatusServicer(Protocol):
    """``cguest.v1.AttestationStatusService``, ours, on the Attestation Agent's socket."""

    async def get_status(
        self, request: cguest_pb2.GetStatusRequest, context: CallContext
    ) -> cguest_pb2.AttestationStatus: ...

    async def attest(
        self, request: cguest_pb2.AttestRequest, context: CallContext
    ) -> cguest_pb2.AttestationStatus: ...


class GetResourceServicer(Protocol):
    """``api.GetResourceService``."""

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, context: CallContext
    ) -> api_pb2.GetResourceResponse: ...


class OlderGetResourceServicer(Protocol):
    """``getresource.GetResourceService``, on the Attestation Agent up to v0.8."""

    async def get_resource(
        self, request: getresource_pb2.GetResourceRequest, context: CallContext
    ) -> getresource_pb2.GetResourceResponse: ...


class SealedSecretServicer(Protocol):
    """``api.SealedSecretService``."""

    async def unseal_secret(
        self, request: api_pb2.UnsealSecretInput, context: CallContext
    ) -> api_pb2.UnsealSecretOutput: ...


class SecureMountServicer(Protocol):
    """``api.SecureMountService``."""

    async def secure_mount(
        self, request: api_pb2.SecureMountRequest, context: CallContext
    ) -> api_pb2.SecureMountResponse: ...


class ImagePullServicer(Protocol):
    """``api.ImagePullService``."""

    async def pull_image(
        self, request: api_pb2.ImagePullRequest, context: CallContext
    ) -> api_pb2.ImagePullResponse: ...


class KeyProviderServicer(Protocol):
    """``keyprovider.KeyProviderService`` inside a guest: unwrapping only."""

    async def unwrap_key(
        self, request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput, context: CallContext
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput: ...


class HubStatusServicer(Protocol):
    """Implements ``cguest.v1.HubStatusService``."""

    async def get_status(
        self, request: cguest_pb2.GetHubStatusRequest, context: CallContext
    ) -> cguest_pb2.HubStatus: ...


class ContainerServicer(Protocol):
    """Implements ``cguest.v1.ContainerService``, ours, on the Confidential Data Hub's socket."""

    async def report_refusal(
        self, request: cguest_pb2.ReportRefusalRequest, context: CallContext
    ) -> cguest_pb2.ReportRefusalResponse: ...


class MountServicer(Protocol):
    """``cguest.v1.MountService``, ours, on the Confidential Data Hub's socket."""

    async def list_mounts(
        self, request: cguest_pb2.ListMountsRequest, context: CallContext
    ) -> cguest_pb2.ListMountsResponse: ...

    async def unmount(
        self, request: cguest_pb2.UnmountRequest, context: CallContext
    ) -> cguest_pb2.UnmountResponse: ...


def attestation_agent_table(impl: AttestationAgentServicer) -> ServiceTable:
    """BindInitData is answered NOT_FOUND, as by every release of the reference over ttRPC."""
    pb = attestation_agent_pb2
    name = services.ATTESTATION_AGENT
    return ServiceTable(
        name,
        {
            "GetEvidence": Method(pb.GetEvidenceRequest, pb.GetEvidenceResponse, impl.get_evidence),
            "GetAdditionalEvidence": Method(
                pb.GetAdditionalEvidenceRequest,
                pb.GetEvidenceResponse,
                impl.get_additional_evidence,
            ),
            "GetToken": Method(pb.GetTokenRequest, pb.GetTokenResponse, impl.get_token),
            "ExtendRuntimeMeasurement": Method(
                pb.ExtendRuntimeMeasurementRequest,
                pb.ExtendRuntimeMeasurementResponse,
                impl.extend_runtime_measurement,
            ),
            "BindInitData": Method(
                pb.BindInitDataRequest,
                pb.BindInitDataResponse,
                unsupported(f"/{name}/BindInitData"),
            ),
            "GetTeeType": Method(pb.GetTeeTypeRequest, pb.GetTeeTypeResponse, impl.get_tee_type),
            "GetAdditionalTees": Method(
                pb.GetAdditionalTeesRequest,
                pb.GetAdditionalTeesResponse,
                impl.get_additional_tees,
            ),
        },
    )


def grpc_attestation_agent_table(
    impl: AttestationAgentServicer, init_data: InitDataServicer
) -> ServiceTable:
    """The table of the reference's gRPC build, which serves BindInitData too."""
    pb = attestation_agent_pb2
    table = attestation_agent_table(impl)
    bind = Method(pb.BindInitDataRequest, pb.BindInitDataResponse, init_data.bind_init_data)
    return replace(table, methods={**table.methods, "BindInitData": bind})


def attestation_status_table(impl: AttestationStatusServicer) -> ServiceTable:
    pb = cguest_pb2
    return ServiceTable(
        services.ATTESTATION_STATUS,
        {
            "GetStatus": Method(pb.GetStatusRequest, pb.AttestationStatus, impl.get_status),
            "Attest": Method(pb.AttestRequest, pb.AttestationStatus, impl.attest),
        },
    )


def get_resource_table(impl: GetResourceServicer) -> ServiceTable:
    method = Method(api_pb2.GetResourceRequest, api_pb2.GetResourceResponse, impl.get_resource)
    return ServiceTable(services.GET_RESOURCE, {"GetResource": method})


def older_get_resource_table(impl: OlderGetResourceServicer) -> ServiceTable:
    pb = getresource_pb2
    method = Method(pb.GetResourceRequest, pb.GetResourceResponse, impl.get_resource)
    return ServiceTable(services.GET_RESOURCE_V0_8, {"GetResource": method})


def sealed_secret_table(impl: SealedSecretServicer) -> ServiceTable:
    method = Method(api_pb2.UnsealSecretInput, api_pb2.UnsealSecretOutput, impl.unseal_secret)
    return ServiceTable(services.SEALED_SECRET, {"UnsealSecret": method})


def secure_mount_table(impl: SecureMountServicer) -> ServiceTable:
    method = Method(api_pb2.SecureMountRequest, api_pb2.SecureMountResponse, impl.secure_mount)
    return ServiceTable(services.SECURE_MOUNT, {"SecureMount": method})


def image_pull_table(impl: ImagePullServicer) -> ServiceTable:
    method = Method(api_pb2.ImagePullRequest, api_pb2.ImagePullResponse, impl.pull_image)
    return ServiceTable(services.IMAGE_PULL, {"PullImage": method})


def key_provider_table(impl: KeyProviderServicer) -> ServiceTable:
    """WrapKey is answered NOT_FOUND: wrapping happens where images are built."""
    request = keyprovider_pb2.KeyProviderKeyWrapProtocolInput
    response = keyprovider_pb2.KeyProviderKeyWrapProtocolOutput
    name = services.KEY_PROVIDER
    return ServiceTable(
        name,
        {
            "WrapKey": Method(request, response, unsupported(f"/{name}/WrapKey")),
            "UnWrapKey": Method(request, response, impl.unwrap_key),
        },
    )


def older_key_provider_table(impl: KeyProviderServicer) -> ServiceTable:
    """As of the Attestation Agent of v0.8: WrapKey is answered UNIMPLEMENTED, in its words."""

    async def refuse(_request: object, _context: CallContext) -> NoReturn:
        raise StatusError(Code.UNIMPLEMENTED, "WrapKey API of attestation-agent is unimplemented!")

    table = key_provider_table(impl)
    wrap = replace(table.methods["WrapKey"], handler=refuse)
    return replace(table, methods={**table.methods, "WrapKey": wrap})


def mount_table(impl: MountServicer) -> ServiceTable:
    pb = cguest_pb2
    return ServiceTable(
        services.MOUNT,
        {
            "ListMounts": Method(pb.ListMountsRequest, pb.ListMountsResponse, impl.list_mounts),
            "Unmount": Method(pb.UnmountRequest, pb.UnmountResponse, impl.unmount),
        },
    )


def hub_status_table(impl: HubStatusServicer) -> ServiceTable:
    method = Method(cguest_pb2.GetHubStatusRequest, cguest_pb2.HubStatus, impl.get_status)
    return ServiceTable(services.HUB_STATUS, {"GetStatus": method})


def container_table(impl: ContainerServicer) -> ServiceTable:
    pb = cguest_pb2
    method = Method(pb.ReportRefusalRequest, pb.ReportRefusalResponse, impl.report_refusal)
    return ServiceTable(services.CONTAINER, {"ReportRefusal": method})
