"""The agent as the KBS client's attester: its evidence, its errors in the client's terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from agent.attestation import AttestationAgent
from agent.errors import AgentError
from kbs import KbsError
from tdx.errors import TdxError


class AgentEvidence:
    """Implements :class:`kbs.EvidenceSource`."""

    def __init__(self, agent: AttestationAgent) -> None:
        self._agent = agent

    async def tee(self) -> str:
        return self._agent.tee_type()

    async def device_evidence(self, device_digest: bytes) -> str:
        """Return the devices' evidence as the one text that is hashed and sent."""
        with _in_terms_of_the_client():
            return (await self._agent.device_evidence(device_digest)).decode()

    async def evidence(self, runtime_digest: bytes) -> msgspec.Raw:
        """Return evidence JSON as it is."""
        with _in_terms_of_the_client():
            return msgspec.Raw(await self._agent.evidence(runtime_digest))


@contextmanager
def _in_terms_of_the_client() -> Iterator[None]:
    """To all who wait for a session, a failed quote is a failed handshake: ``KbsError``.

    The background renewal goes on after it.
    """
    try:
        yield
    except (AgentError, TdxError) as error:
        raise KbsError(
            error.problem, attempted="taking evidence for the KBS", hint=error.hint
        ) from error
