"""Who answers: ports for resources and attestation, and their ttRPC adapters.

An adapter keeps one connection, made at the first request, and connects anew once when it turns
out to be lost. Adapters that call the services in the same process live with the composition.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from google.protobuf.empty_pb2 import Empty

from lifecycle import UnixAddress
from protos.stubs import AttestationAgentStub, GetResourceStub
from rest.errors import (
    CONNECT_FAILED,
    FAILED_AFTER_RECONNECT,
    REQUEST_FAILED,
    BackendError,
)
from rest.strict import RuntimeData
from secrecy import Secret
from ttrpc import Client, ConnectionLostError, DeadlineError, Metadata, StatusError, TtrpcError

CALL_SECONDS: Final = 50.0  # the reference's limit for one call
CONNECT_SECONDS: Final = 5.0
# gRPC's health service; the reference's services do not know it and say so, which is an answer.
HEALTH: Final = ("grpc.health.v1.Health", "Check")
# Tells an agent that labels by itself what the label is already over: agent.caller_data.
LABELLED_KEY: Final = "cguest-labelled-data"
T = TypeVar("T")


class ResourceBackend(Protocol):
    """The data hub, as far as REST needs it. Raises :class:`BackendError`."""

    async def get_resource(self, uri: str) -> Secret:
        """Return the resource that the unchecked ``uri`` names."""
        ...

    async def is_reachable(self) -> bool:
        """Return whether somebody answers at all. Cheap; the caller has the deadline."""
        ...


class AttestationBackend(Protocol):
    """The attestation agent, as far as REST needs it. Raises :class:`BackendError`."""

    async def token(self, token_type: str) -> Secret:
        """Return a token; of type ``kbs`` it comes with the private TEE key."""
        ...

    async def evidence(self, data: RuntimeData) -> bytes: ...

    async def additional_evidence(self, data: RuntimeData) -> bytes: ...

    async def extend(self, domain: str, operation: str, content: str) -> int:
        """Measure an event; return 0 done, 1 not supported or 2 not enabled."""
        ...

    async def tee(self) -> str: ...

    async def additional_tees(self) -> list[str]: ...

    async def is_reachable(self) -> bool:
        """As that of the data hub."""
        ...


@dataclass(frozen=True, slots=True)
class Backends:
    """The two that answer. A server without a feature never calls the one behind it."""

    resources: ResourceBackend
    attestation: AttestationBackend


class TtrpcLink:
    """One connection to a service, shared by all requests."""

    def __init__(self, service: str, address: UnixAddress) -> None:
        """``service`` is the name the reference uses in its texts."""
        self._service = service
        self._address = address
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def call(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """Run ``make`` on the connection; once more on a new one if the connection was lost.

        Raises :class:`BackendError` with the reference's text and the peer's cause.
        """
        client, was_open = await self._connected()
        try:
            return await make(client)
        except ConnectionLostError as error:
            await self._drop(client)
            if not was_open:
                raise BackendError(REQUEST_FAILED, str(error)) from error
        except TtrpcError as error:
            raise _backend_error(REQUEST_FAILED, error) from error
        client, _ = await self._connected()
        try:
            return await make(client)
        except TtrpcError as error:
            raise _backend_error(FAILED_AFTER_RECONNECT, error) from error

    async def is_reachable(self) -> bool:
        """Ask for its health; any answer will do, also that it knows no such question."""
        try:
            client, _ = await self._connected()
        except BackendError:
            return False
        try:
            await client.call(*HEALTH, Empty(), Empty, timeout_s=CALL_SECONDS)
        except StatusError:
            return True
        except ConnectionLostError:
            await self._drop(client)
            return False
        except TtrpcError:
            return False
        return True

    async def aclose(self) -> None:
        if self._client is not None:
            await self._drop(self._client)

    async def _connected(self) -> tuple[Client, bool]:
        """Return the connection, and whether it was there before."""
        async with self._connecting:
            if self._client is not None:
                return self._client, True
            try:
                self._client = await Client.connect(self._address.path, timeout_s=CONNECT_SECONDS)
            except TtrpcError as error:
                outer = CONNECT_FAILED.format(service=self._service, address=self._address)
                raise BackendError(outer, str(error)) from error
            return self._client, False

    async def _drop(self, client: Client) -> None:
        if self._client is client:
            self._client = None
        await client.aclose()


def _backend_error(outer: str, error: TtrpcError) -> BackendError:
    if isinstance(error, DeadlineError):
        return BackendError(outer, f"no reply within {CALL_SECONDS:g} s")
    if isinstance(error, StatusError):
        # What the peer says may quote the request; the peer itself has logged what may be.
        return BackendError(outer, str(error), noted=f"answered {error.code.name}")
    return BackendError(outer, str(error))


class TtrpcResources:
    """Resources from a data hub's socket."""

    def __init__(self, address: UnixAddress) -> None:
        self._link = TtrpcLink("CDH", address)

    async def get_resource(self, uri: str) -> Secret:
        reply = await self._link.call(
            lambda client: GetResourceStub(client).get_resource(uri, timeout_s=CALL_SECONDS)
        )
        return Secret(reply.Resource)

    async def is_reachable(self) -> bool:
        return await self._link.is_reachable()

    async def aclose(self) -> None:
        await self._link.aclose()


class TtrpcAttestation:
    """Attestation from an attestation agent's socket."""

    def __init__(self, address: UnixAddress) -> None:
        self._link = TtrpcLink("Attestation Agent", address)

    async def token(self, token_type: str) -> Secret:
        reply = await self._link.call(
            lambda client: AttestationAgentStub(client).get_token(
                token_type, timeout_s=CALL_SECONDS
            )
        )
        return Secret(reply.Token)

    async def evidence(self, data: RuntimeData) -> bytes:
        reply = await self._link.call(
            lambda client: AttestationAgentStub(client).get_evidence(
                data.bound, timeout_s=CALL_SECONDS, metadata=_origin(data)
            )
        )
        return reply.Evidence

    async def additional_evidence(self, data: RuntimeData) -> bytes:
        reply = await self._link.call(
            lambda client: AttestationAgentStub(client).get_additional_evidence(
                data.bound, timeout_s=CALL_SECONDS, metadata=_origin(data)
            )
        )
        return reply.Evidence

    async def extend(self, domain: str, operation: str, content: str) -> int:
        reply = await self._link.call(
            lambda client: AttestationAgentStub(client).extend_runtime_measurement(
                domain, operation, content, timeout_s=CALL_SECONDS
            )
        )
        return int(reply.Result)

    async def tee(self) -> str:
        reply = await self._link.call(
            lambda client: AttestationAgentStub(client).get_tee_type(timeout_s=CALL_SECONDS)
        )
        return reply.tee

    async def additional_tees(self) -> list[str]:
        reply = await self._link.call(
            lambda client: AttestationAgentStub(client).get_additional_tees(timeout_s=CALL_SECONDS)
        )
        return list(reply.additional_tees)

    async def is_reachable(self) -> bool:
        return await self._link.is_reachable()

    async def aclose(self) -> None:
        await self._link.aclose()


def _origin(data: RuntimeData) -> Metadata | None:
    if data.labelled_from is None:
        return None
    return {LABELLED_KEY: [base64.b64encode(data.labelled_from).decode()]}
