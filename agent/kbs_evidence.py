"""The agent as the KBS client's attester: its evidence, its errors in the client's terms."""

from __future__ import annotations

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

    async def device_evidence(self, device_digest: bytes) -> str:  # noqa: ARG002 - no device
        """Return nothing: this guest has no further device that attests."""
        return ""

    async def evidence(self, runtime_digest: bytes) -> msgspec.Raw:
        """Return evidence JSON as it is.

        Raises :class:`~kbs.KbsError`: to everyone who waits for a session, a failed quote is a
        failed handshake, and the background renewal goes on after it.
        """
        try:
            return msgspec.Raw(await self._agent.evidence(runtime_digest))
        except (AgentError, TdxError) as error:
            raise KbsError(
                error.problem, attempted="taking evidence for the KBS", hint=error.hint
            ) from error
