"""REST's ports answered by services in the same process: function calls instead of sockets.

The texts are those of the socket adapters, so that a caller cannot tell the two forms apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.compose import RunningAgent
from agent.errors import AgentError
from cdh.errors import CdhError
from cdh.hub import ConfidentialDataHub
from kbs import KbsError, ResourceUriError
from rest.errors import REQUEST_FAILED, BackendError
from rest.strict import RuntimeData
from secrecy import Secret
from tdx import TdxError

OWN_ERRORS = (AgentError, CdhError, KbsError, TdxError)


@contextmanager
def _as_backend() -> Iterator[None]:
    try:
        yield
    except OWN_ERRORS as error:
        noted = error.noted if isinstance(error, ResourceUriError) else None
        raise BackendError(REQUEST_FAILED, str(error), noted=noted) from error


class LocalResources:
    """The data hub of this process."""

    def __init__(self, hub: ConfidentialDataHub) -> None:
        self._hub = hub

    async def get_resource(self, uri: str) -> Secret:
        with _as_backend():
            return await self._hub.get_resource(uri)

    async def is_reachable(self) -> bool:
        return True


class LocalAttestation:
    """The attestation agent of this process."""

    def __init__(self, running: RunningAgent) -> None:
        self._running = running
        self._agent = running.agent

    async def token(self, token_type: str) -> Secret:
        with _as_backend():
            return await self._running.tokens.token(token_type)

    async def evidence(self, data: RuntimeData) -> bytes:
        with _as_backend():
            return await self._agent.evidence_for_caller(
                data.bound, labelled_from=data.labelled_from
            )

    async def additional_evidence(self, data: RuntimeData) -> bytes:
        with _as_backend():
            return await self._agent.device_evidence_for_caller(
                data.bound, labelled_from=data.labelled_from
            )

    async def extend(self, domain: str, operation: str, content: str) -> int:
        with _as_backend():
            return await self._agent.extend(domain, operation, content)

    async def is_reachable(self) -> bool:
        return True

    async def tee(self) -> str:
        return self._agent.tee_type()

    async def additional_tees(self) -> list[str]:
        return self._agent.device_names()
