"""Receipts of the whole process: one chain for agent, hub and REST, and its checkpoints.

Who asks is taken from the connection here, at the doors, so that the services need not know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.older_doors import named_resource
from cguestd.config import ReceiptsConfig
from kbs import ResourceUriError
from protos import attestation_agent_pb2, getresource_pb2, services
from receipts import (
    NO_RECEIPTS,
    Act,
    Caller,
    Extend,
    LogSettings,
    ReceiptLog,
    ReceiptSink,
    ReceiptsUnavailableError,
    Subject,
    Verdict,
    asked_by,
    noting,
    open_log,
    text,
)
from receipts.record import Via
from rest.asking import CALLER
from rest.backends import AttestationBackend, ResourceBackend
from rest.errors import REQUEST_FAILED, BackendError
from rest.identity import Container
from rest.strict import RuntimeData
from secrecy import Secret
from serving.doors import Door, DoorAddress, GrpcDoor
from ttrpc import AnyMethod, CallContext, Code, Method, ServiceTable, StatusError

T = TypeVar("T")
# What is given by the agent itself; the hub leaves receipts of its own.
ACTS: Final[Mapping[tuple[str, str], Act]] = {
    (services.ATTESTATION_AGENT, "GetEvidence"): "evidence",
    (services.ATTESTATION_AGENT, "GetAdditionalEvidence"): "evidence",
    (services.ATTESTATION_AGENT, "GetToken"): "token",
    (services.GET_RESOURCE_V0_8, "GetResource"): "release",
}
AGENT_KEY_PROVIDER: Final[Mapping[tuple[str, str], Act]] = {
    (services.KEY_PROVIDER, "UnWrapKey"): "unwrap-key"
}


@asynccontextmanager
async def open_receipts(config: ReceiptsConfig) -> AsyncIterator[ReceiptLog | None]:
    """Open the chain; ``None`` where there are to be no receipts.

    Raises :class:`~receipts.ReceiptsDamagedError`.
    """
    if not config.enabled:
        yield None
        return
    settings = LogSettings(required=config.required, checkpoint_every=config.checkpoint_every)
    async with open_log(Path(config.directory), settings) as log:
        yield log


@asynccontextmanager
async def checkpoints(log: ReceiptLog | None, extend: Extend) -> AsyncIterator[None]:
    """Make checkpoints meanwhile, and one at the end, when the agent must still be there."""
    if log is None:
        yield
        return
    keeping = asyncio.create_task(log.keep_checkpoints(extend), name="receipts")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        await log.stop(extend)


def sink_of(log: ReceiptLog | None) -> ReceiptSink:
    return NO_RECEIPTS if log is None else log


def recorded_doors(
    doors: Mapping[str, Door], log: ReceiptLog | None, *, of_agent: bool
) -> dict[str, Door]:
    """Return the doors with callers told to receipts, and with receipts of what the agent gives."""
    if log is None:
        return dict(doors)
    acts = {**ACTS, **AGENT_KEY_PROVIDER} if of_agent else ACTS
    return {
        name: Door(door.address, [_recorded(table, log, acts, via) for table in door.tables])
        for name, door in doors.items()
        for via in [_via(door.address)]
    }


def _recorded(
    table: ServiceTable, log: ReceiptSink, acts: Mapping[tuple[str, str], Act], via: Via
) -> ServiceTable:
    methods: dict[str, AnyMethod] = {
        name: _method(method, log, acts.get((table.name, name)), via)
        for name, method in table.methods.items()
    }
    return replace(table, methods=methods)


def _method(method: AnyMethod, log: ReceiptSink, act: Act | None, via: Via) -> AnyMethod:
    if not isinstance(method, Method):
        return method
    handler = method.handler

    async def attributed(request: Any, context: CallContext) -> Any:
        with asked_by(_caller(context, via)):
            if act is None:
                return await handler(request, context)
            return await _noted(log, act, _subject(request), lambda: handler(request, context))

    return replace(method, handler=attributed)


def _via(address: DoorAddress) -> Via:
    return "grpc" if isinstance(address, GrpcDoor) else "ttrpc"


def _caller(context: CallContext, via: Via) -> Caller:
    peer = context.peer
    if peer is None:
        return Caller(via)
    return Caller(via, max(peer.pid, 0), max(peer.uid, 0))


def _subject(request: object) -> Subject:
    """A kind of token, or a resource of the oldest door; nothing of what else was sent.

    Only what is a resource: a caller may have put anything there, a secret included.
    """
    if isinstance(request, attestation_agent_pb2.GetTokenRequest):
        return Subject(resource=text(f"token of type {request.TokenType}"))
    if isinstance(request, getresource_pb2.GetResourceRequest):
        with suppress(ResourceUriError):
            return Subject(resource=text(str(named_resource(request.ResourcePath))))
    return Subject()


async def _noted(
    log: ReceiptSink, act: Act, subject: Subject, work: Callable[[], Awaitable[T]]
) -> T:
    try:
        async with noting(log, act, subject, _judge):
            return await work()
    except ReceiptsUnavailableError as error:
        raise StatusError(Code.INTERNAL, str(error)) from error


def _judge(error: Exception) -> tuple[Verdict, str]:
    if isinstance(error.__cause__, ResourceUriError):
        return "failed", error.__cause__.noted
    if isinstance(error, StatusError):
        return "refused" if error.refused else "failed", error.message
    if isinstance(error, BackendError):
        return "failed", str(error)
    return "failed", type(error).__name__


def _rest_caller() -> Caller:
    caller = CALLER.get()
    return Caller("rest", container=text(caller.id) if isinstance(caller, Container) else "")


class RecordedResources:
    """Resources for REST's callers. Implements ``rest.backends.ResourceBackend``."""

    def __init__(self, inner: ResourceBackend) -> None:
        self._inner = inner

    async def get_resource(self, uri: str) -> Secret:
        with asked_by(_rest_caller()):
            return await self._inner.get_resource(uri)

    async def is_reachable(self) -> bool:
        return await self._inner.is_reachable()


class RecordedAttestation:
    """Attestation for REST's callers. Implements ``rest.backends.AttestationBackend``."""

    def __init__(self, inner: AttestationBackend, log: ReceiptSink) -> None:
        self._inner = inner
        self._log = log

    async def token(self, token_type: str) -> Secret:
        subject = Subject(resource=text(f"token of type {token_type}"))
        return await self._given("token", lambda: self._inner.token(token_type), subject)

    async def evidence(self, data: RuntimeData) -> bytes:
        return await self._given("evidence", lambda: self._inner.evidence(data))

    async def additional_evidence(self, data: RuntimeData) -> bytes:
        return await self._given("evidence", lambda: self._inner.additional_evidence(data))

    async def extend(self, domain: str, operation: str, content: str) -> int:
        return await self._inner.extend(domain, operation, content)

    async def tee(self) -> str:
        return await self._inner.tee()

    async def additional_tees(self) -> list[str]:
        return await self._inner.additional_tees()

    async def is_reachable(self) -> bool:
        return await self._inner.is_reachable()

    async def _given(
        self, act: Act, work: Callable[[], Awaitable[T]], subject: Subject | None = None
    ) -> T:
        try:
            with asked_by(_rest_caller()):
                async with noting(self._log, act, subject or Subject(), _judge):
                    return await work()
        except ReceiptsUnavailableError as error:
            raise BackendError(REQUEST_FAILED, str(error)) from error
