"""What the agent tells of a failed handshake, on request only."""

from __future__ import annotations

from typing import cast

import pytest

from agent.attestation import AgentStatus, AttestationAgent
from agent.service import MAX_ATTESTATION, StatusServicer
from kbs import AttestationRefusedError, AttestedSession, KbsUnreachableError, SessionKeeper
from protos.cguest_pb2 import GetStatusRequest
from ttrpc import CallContext

CONTEXT = cast("CallContext", None)  # not looked at


class Agent:
    """As much of an agent as its status needs."""

    def status(self) -> AgentStatus:
        return AgentStatus("tdx", 1, event_log_enabled=False, measured_events=0)


async def servicer_after(error: Exception) -> StatusServicer:
    async def handshake() -> AttestedSession:
        raise error

    keeper = SessionKeeper(handshake)
    with pytest.raises(type(error)):
        await keeper.session()
    return StatusServicer(cast("AttestationAgent", Agent()), keeper, "https://kbs")


def refusal(attestation: bytes) -> AttestationRefusedError:
    error = AttestationRefusedError(401, "AttestationError", "RCAR handshake Attest failed")
    error.challenge, error.attestation = b'{"nonce":"n"}', attestation
    return error


async def test_a_refusal_is_told_with_what_was_sent() -> None:
    servicer = await servicer_after(refusal(b'{"tee-evidence":{}}'))
    status = await servicer.get_status(GetStatusRequest(with_failure=True), CONTEXT)
    failure = status.failure
    assert (failure.kind, failure.http_status) == ("refused", 401)
    assert failure.detail == "RCAR handshake Attest failed"
    assert failure.challenge == b'{"nonce":"n"}'
    assert failure.attestation == b'{"tee-evidence":{}}'


async def test_who_does_not_ask_gets_the_message_only() -> None:
    servicer = await servicer_after(refusal(b"{}"))
    status = await servicer.get_status(GetStatusRequest(), CONTEXT)
    assert not status.HasField("failure")
    assert "attestation refused" in status.last_error


async def test_what_would_not_fit_into_a_message_is_left_out() -> None:
    servicer = await servicer_after(refusal(bytes(MAX_ATTESTATION + 1)))
    status = await servicer.get_status(GetStatusRequest(with_failure=True), CONTEXT)
    assert status.failure.attestation == b""
    assert status.failure.kind == "refused"


async def test_an_outage_has_its_own_kind() -> None:
    servicer = await servicer_after(KbsUnreachableError("no connection (refused)"))
    status = await servicer.get_status(GetStatusRequest(with_failure=True), CONTEXT)
    assert status.failure.kind == "unreachable"
    assert status.failure.attestation == b""
