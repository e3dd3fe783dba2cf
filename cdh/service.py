"""The hub as ttRPC services: messages to calls and back, errors to codes and texts.

Code and beginning of every text are those of the reference hub, followed by our cause on the same
line: ``[CDH] [ERROR]: Get Resource failed: <cause>``. Causes never hold secrets; what is not an
error of ours or of ``kbs`` shows as its type.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cdh.errors import CdhError, MountNotFoundError, bounded
from cdh.hub import ConfidentialDataHub
from cdh.mounts.spec import MountRequest
from cdh.refusal import is_refusal
from kbs import KbsError
from protos import api_pb2, cguest_pb2, keyprovider_pb2, services, tables
from secrecy.journal import get_logger
from ttrpc import CallContext, Code, Method, ServiceTable, StatusError, unsupported

log = get_logger("cdh")

PREFIX: Final = "[CDH] [ERROR]: "
MAX_CAUSE: Final = 700  # characters


def cause_line(error: Exception) -> str:
    """Return one bounded line that says why, for errors whose messages are made to be shown."""
    if isinstance(error, CdhError | KbsError):
        return bounded(str(error), MAX_CAUSE)
    return type(error).__name__


@asynccontextmanager
async def _as_status(outer: str) -> AsyncIterator[None]:
    """Turn what goes wrong inside into the reference's answer and a log line."""
    try:
        yield
    except StatusError:
        raise
    except MountNotFoundError as error:
        raise StatusError(Code.NOT_FOUND, f"{PREFIX}{outer}: {cause_line(error)}") from error
    except (CdhError, KbsError) as error:
        cause = cause_line(error)
        log.warning("request failed", operation=outer, cause=cause)
        raise StatusError(
            Code.INTERNAL, f"{PREFIX}{outer}: {cause}", refused=is_refusal(error)
        ) from error


class HubServicer:
    """Implements the hub's servicer protocols of :mod:`protos.tables`."""

    def __init__(self, hub: ConfidentialDataHub) -> None:
        self._hub = hub

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, _context: CallContext
    ) -> api_pb2.GetResourceResponse:
        async with _as_status("Get Resource failed"):
            resource = await self._hub.get_resource(request.ResourcePath)
            return api_pb2.GetResourceResponse(Resource=resource.reveal())

    async def unseal_secret(
        self, request: api_pb2.UnsealSecretInput, _context: CallContext
    ) -> api_pb2.UnsealSecretOutput:
        async with _as_status("Unseal Secret failed"):
            value = await self._hub.unseal(request.secret)
            return api_pb2.UnsealSecretOutput(plaintext=value.reveal())

    async def secure_mount(
        self, request: api_pb2.SecureMountRequest, _context: CallContext
    ) -> api_pb2.SecureMountResponse:
        async with _as_status("Secure Mount failed"):
            await self._hub.secure_mount(
                MountRequest(
                    volume_type=request.volume_type,
                    options=dict(request.options),
                    flags=tuple(request.flags),
                    mount_point=request.mount_point,
                )
            )
            return api_pb2.SecureMountResponse()

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
        async with _as_status("Unmount failed"):
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
        _absent_image_pull(),
        _absent_key_provider(),
    ]


def _absent_image_pull() -> ServiceTable:
    """Pulling images is absent: PullImage answers code 5, as an interface without a server."""
    name = services.IMAGE_PULL
    pull = Method(
        api_pb2.ImagePullRequest, api_pb2.ImagePullResponse, unsupported(f"/{name}/PullImage")
    )
    return ServiceTable(name, {"PullImage": pull})


def _absent_key_provider() -> ServiceTable:
    """Unwrapping image keys is absent, as the images are; wrapping never was in a guest."""
    name = services.KEY_PROVIDER
    request = keyprovider_pb2.KeyProviderKeyWrapProtocolInput
    response = keyprovider_pb2.KeyProviderKeyWrapProtocolOutput
    return ServiceTable(
        name,
        {
            method: Method(request, response, unsupported(f"/{name}/{method}"))
            for method in ("WrapKey", "UnWrapKey")
        },
    )
