"""The hub as ttRPC services: messages to calls and back."""

from __future__ import annotations

from typing import Final

from cdh.answers import as_status
from cdh.hub import ConfidentialDataHub
from cdh.key_provider import KeyProviderServicer
from cdh.mounts.spec import MountRequest
from protos import api_pb2, cguest_pb2, services, tables
from ttrpc import CallContext, Method, ServiceTable, unsupported

SEALED_TEXT_STAYS: Final = "kata-agent only warns, and starts the container with the sealed text"


class HubServicer:
    """Implements the hub's servicer protocols of :mod:`protos.tables`."""

    def __init__(self, hub: ConfidentialDataHub) -> None:
        self._hub = hub

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, _context: CallContext
    ) -> api_pb2.GetResourceResponse:
        async with as_status("Get Resource failed"):
            resource = await self._hub.get_resource(request.ResourcePath)
            return api_pb2.GetResourceResponse(Resource=resource.reveal())

    async def unseal_secret(
        self, request: api_pb2.UnsealSecretInput, _context: CallContext
    ) -> api_pb2.UnsealSecretOutput:
        async with as_status("Unseal Secret failed", consequence=SEALED_TEXT_STAYS):
            value = await self._hub.unseal(request.secret)
            return api_pb2.UnsealSecretOutput(plaintext=value.reveal())

    async def secure_mount(
        self, request: api_pb2.SecureMountRequest, _context: CallContext
    ) -> api_pb2.SecureMountResponse:
        async with as_status("Secure Mount failed"):
            await self._hub.secure_mount(
                MountRequest(
                    volume_type=request.volume_type,
                    options=dict(request.options),
                    flags=tuple(request.flags),
                    mount_point=request.mount_point,
                )
            )
            # Releases v0.9 to v0.17 say where it is; callers of later ones skip the field.
            return api_pb2.SecureMountResponse(mount_path=request.mount_point)

    async def list_mounts(
        self, _request: cguest_pb2.ListMountsRequest, _context: CallContext
    ) -> cguest_pb2.ListMountsResponse:
        return cguest_pb2.ListMountsResponse(
            mounts=[
                cguest_pb2.Mount(
                    mount_point=mount.mount_point,
                    bucket=mount.bucket,
                    prefix=mount.prefix,
                    volume_id=mount.volume_id,
                    state=mount.state.value,
                    pid=mount.pid,
                    restarts=mount.restarts,
                    read_only=mount.read_only,
                    last_error=mount.last_error,
                    since_unix=mount.since_unix,
                )
                for mount in self._hub.list_mounts()
            ]
        )

    async def unmount(
        self, request: cguest_pb2.UnmountRequest, _context: CallContext
    ) -> cguest_pb2.UnmountResponse:
        async with as_status("Unmount failed"):
            await self._hub.unmount(request.mount_point)
            return cguest_pb2.UnmountResponse()


def hub_tables(hub: ConfidentialDataHub) -> list[ServiceTable]:
    """Return every service on the hub's socket. What is absent is answered as absent."""
    servicer = HubServicer(hub)
    return [
        tables.get_resource_table(servicer),
        tables.sealed_secret_table(servicer),
        tables.secure_mount_table(servicer),
        tables.mount_table(servicer),
        tables.key_provider_table(KeyProviderServicer(hub)),
        _absent_image_pull(),
    ]


def _absent_image_pull() -> ServiceTable:
    """Pulling images is absent: PullImage answers code 5, as an interface without a server."""
    name = services.IMAGE_PULL
    pull = Method(
        api_pb2.ImagePullRequest, api_pb2.ImagePullResponse, unsupported(f"/{name}/PullImage")
    )
    return ServiceTable(name, {"PullImage": pull})
