"""REST's ports answered by the hub and the agent that run now, whichever those are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.compose import RunningAgent
from cdh.compose import RunningHub
from cguestd.local_backends import LocalAttestation, LocalResources
from rest.errors import REQUEST_FAILED, BackendError
from rest.strict import RuntimeData
from secrecy import Secret
from serving.errors import PartUnavailableError
from serving.present import Present

T = TypeVar("T")
R = TypeVar("R")


async def _ask(present: Present[T], work: Callable[[T], Awaitable[R]]) -> R:
    try:
        return await present.call(work)
    except PartUnavailableError as error:
        raise BackendError(REQUEST_FAILED, str(error)) from error


class PresentResources:
    """Implements ``rest.backends.ResourceBackend``."""

    def __init__(self, hub: Present[RunningHub]) -> None:
        self._hub = hub

    async def get_resource(self, uri: str) -> Secret:
        return await _ask(self._hub, lambda hub: LocalResources(hub.hub).get_resource(uri))

    async def is_reachable(self) -> bool:
        return self._hub.value is not None


class PresentAttestation:
    """Implements ``rest.backends.AttestationBackend``."""

    def __init__(self, agent: Present[RunningAgent]) -> None:
        self._agent = agent

    async def token(self, token_type: str) -> Secret:
        return await self._ask(lambda agent: agent.token(token_type))

    async def evidence(self, data: RuntimeData) -> bytes:
        return await self._ask(lambda agent: agent.evidence(data))

    async def additional_evidence(self, data: RuntimeData) -> bytes:
        return await self._ask(lambda agent: agent.additional_evidence(data))

    async def extend(self, domain: str, operation: str, content: str) -> int:
        return await self._ask(lambda agent: agent.extend(domain, operation, content))

    async def tee(self) -> str:
        return await self._ask(lambda agent: agent.tee())

    async def additional_tees(self) -> list[str]:
        return await self._ask(lambda agent: agent.additional_tees())

    async def is_reachable(self) -> bool:
        return self._agent.value is not None

    async def _ask(self, work: Callable[[LocalAttestation], Awaitable[R]]) -> R:
        return await _ask(self._agent, lambda running: work(LocalAttestation(running)))
