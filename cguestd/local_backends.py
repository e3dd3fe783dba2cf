"""REST's ports answered by services in the same process: function calls instead of sockets.

The texts are those of the socket adapters, so that a caller cannot tell the two forms apart.
"""

from __future__ import annotations

from agent.compose import RunningAgent
from agent.errors import AgentError
from cdh.errors import CdhError
from cdh.hub import ConfidentialDataHub
from kbs import KbsError
from rest.errors import REQUEST_FAILED, BackendError
from rest.strict import RuntimeData
from secrecy import Secret
from tdx import TdxError

OWN_ERRORS = (AgentError, CdhError, KbsError, TdxError)


class LocalResources:
    """The data hub of this process."""

    def __init__(self, hub: ConfidentialDataHub) -> None:
        self._hub = hub

    async def get_resource(self, uri: str) -> Secret:
        try:
            return await self._hub.get_resource(uri)
        except OWN_ERRORS as error:
            raise BackendError(REQUEST_FAILED, str(error)) from error

    async def is_reachable(self) -> bool:
        return True


class LocalAttestation:
    """The attestation agent of this process."""

    def __init__(self, running: RunningAgent) -> None:
        self._running = running
        self._agent = running.agent

    async def token(self, token_type: str) -> Secret:
        try:
            return await self._running.tokens.token(token_type)
        except OWN_ERRORS as error:
            raise BackendError(REQUEST_FAILED, str(error)) from error

    async def evidence(self, data: RuntimeData) -> bytes:
        try:
            return await self._agent.evidence_for_caller(
                data.bound, labelled_from=data.labelled_from
            )
        except OWN_ERRORS as error:
            raise BackendError(REQUEST_FAILED, str(error)) from error

    async def additional_evidence(self, data: RuntimeData) -> bytes:
        try:
            return await self._agent.device_evidence_for_caller(
                data.bound, labelled_from=data.labelled_from
            )
        except OWN_ERRORS as error:
            raise BackendError(REQUEST_FAILED, str(error)) from error

    async def extend(self, domain: str, operation: str, content: str) -> int:
        try:
            return await self._agent.extend(domain, operation, content)
        except OWN_ERRORS as error:
            raise BackendError(REQUEST_FAILED, str(error)) from error

    async def is_reachable(self) -> bool:
        return True

    async def tee(self) -> str:
        return self._agent.tee_type()

    async def additional_tees(self) -> list[str]:
        return self._agent.device_names()
