"""The agent on ttRPC: messages to calls and back, errors to codes.

Codes and the first part of each text are those of guest-components
(``attestation-agent/src/bin/ttrpc_dep/server.rs``), which clients compare; the reason follows
after a colon, for people.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.attestation import AttestationAgent, ExtendResult
from agent.errors import AgentError, MeasuredEventError
from agent.tokens import TokenIssuer
from kbs import (
    HandshakeFailure,
    HandshakeHeldError,
    KbsError,
    KbsRefusedError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
    ResourceUriError,
    SessionKeeper,
)
from keywrap import KeywrapError
from protos import attestation_agent_pb2 as aa
from protos import cguest_pb2
from secrecy.journal import get_logger
from tdx.errors import TdxError
from ttrpc import CallContext, Code, StatusError

log = get_logger("agent")

EVIDENCE_FAILED: Final = "[ERROR:attestation-agent] AA-KBC get evidence failed"
TOKEN_FAILED: Final = "[ERROR:attestation-agent] AA-KBC get token failed"  # noqa: S105 - a text
EXTEND_FAILED: Final = "[ERROR:attestation-agent] AA extend runtime measurement failed"
TEE_FAILED: Final = "[ERROR:attestation-agent] AA-KBC get tee type failed"
ATTEST_FAILED: Final = "attestation failed"
REFUSED_TOKEN_KEY: Final = "cguest-refused-token"  # noqa: S105 - a metadata key
KBS_URL_KEY: Final = "cguest-kbs-url"
LABELLED_KEY: Final = "cguest-labelled-data"
RESULTS: Final = {
    ExtendResult.OK: aa.OK,
    ExtendResult.NOT_SUPPORTED: aa.NOT_SUPPORTED,
    ExtendResult.NOT_ENABLED: aa.NOT_ENABLED,
}
MAX_REASON: Final = 1000  # characters
MAX_ATTESTATION: Final = 3 * 1024 * 1024  # bytes
REPLY_SECONDS: Final = 0.25  # kept back of a caller's deadline, so that the reason arrives in time


class AgentServicer:
    """``attestation_agent.AttestationAgentService``."""

    def __init__(self, agent: AttestationAgent, tokens: TokenIssuer) -> None:
        self._agent = agent
        self._tokens = tokens

    async def get_evidence(
        self, request: aa.GetEvidenceRequest, context: CallContext
    ) -> aa.GetEvidenceResponse:
        with failing_as(EVIDENCE_FAILED):
            evidence = await self._agent.evidence_for_caller(
                request.RuntimeData,
                labelled_from=_labelled_from(context),
                timeout_s=_seconds_left(context),
            )
        return aa.GetEvidenceResponse(Evidence=evidence)

    async def get_additional_evidence(
        self, request: aa.GetAdditionalEvidenceRequest, context: CallContext
    ) -> aa.GetEvidenceResponse:
        """Zero bytes without a further device that attests."""
        with failing_as(EVIDENCE_FAILED):
            evidence = await self._agent.device_evidence_for_caller(
                request.RuntimeData, labelled_from=_labelled_from(context)
            )
        return aa.GetEvidenceResponse(Evidence=evidence)

    async def get_token(
        self, request: aa.GetTokenRequest, context: CallContext
    ) -> aa.GetTokenResponse:
        refused = context.metadata.get(REFUSED_TOKEN_KEY, ())
        urls = context.metadata.get(KBS_URL_KEY, ())
        with failing_as(TOKEN_FAILED):
            token = await self._tokens.token(
                request.TokenType, refused[0] if refused else None, urls[0] if urls else None
            )
        return aa.GetTokenResponse(Token=token.reveal())

    async def extend_runtime_measurement(
        self, request: aa.ExtendRuntimeMeasurementRequest, _context: CallContext
    ) -> aa.ExtendRuntimeMeasurementResponse:
        # Absent means the configured register, 0 is PCR 0.
        index = request.RegisterIndex if request.HasField("RegisterIndex") else None
        with failing_as(EXTEND_FAILED):
            _refuse_older_events(request)
            result = await self._agent.extend(
                request.Domain, request.Operation, request.Content, index
            )
        return aa.ExtendRuntimeMeasurementResponse(Result=RESULTS[result])

    async def get_tee_type(
        self, _request: aa.GetTeeTypeRequest, _context: CallContext
    ) -> aa.GetTeeTypeResponse:
        with failing_as(TEE_FAILED):
            return aa.GetTeeTypeResponse(tee=self._agent.tee_type())

    async def get_additional_tees(
        self, _request: aa.GetAdditionalTeesRequest, _context: CallContext
    ) -> aa.GetAdditionalTeesResponse:
        return aa.GetAdditionalTeesResponse(additional_tees=self._agent.device_names())


class StatusServicer:
    """``cguest.v1.AttestationStatusService``."""

    def __init__(self, agent: AttestationAgent, sessions: SessionKeeper, kbs_url: str) -> None:
        self._agent = agent
        self._sessions = sessions
        self._kbs_url = kbs_url

    async def get_status(
        self, request: cguest_pb2.GetStatusRequest, _context: CallContext
    ) -> cguest_pb2.AttestationStatus:
        status = self._status()
        if request.with_failure and (failure := self._sessions.last_failure) is not None:
            status.failure.CopyFrom(_failure_message(failure))
        return status

    async def attest(
        self, request: cguest_pb2.AttestRequest, _context: CallContext
    ) -> cguest_pb2.AttestationStatus:
        """Make sure of a session; with ``force``, of a new one, without waiting out failures."""
        try:
            await (self._sessions.renew() if request.force else self._sessions.session())
        except (AgentError, TdxError, KbsError) as error:
            raise _status_error(_code_of(error), ATTEST_FAILED, error) from error
        return self._status()

    def _status(self) -> cguest_pb2.AttestationStatus:
        own, sessions = self._agent.status(), self._sessions
        return cguest_pb2.AttestationStatus(
            tee=own.tee,
            kbs_url=self._kbs_url,
            session=sessions.state.value,
            session_expires_unix=int(sessions.expires_at or 0),
            renew_at_unix=int(sessions.renew_at or 0),
            quotes_taken=own.quotes_taken,
            handshakes=sessions.handshakes,
            last_error=_one_line(sessions.last_error),
            event_log_enabled=own.event_log_enabled,
            measured_events=own.measured_events,
        )


def _failure_message(failure: HandshakeFailure) -> cguest_pb2.HandshakeFailure:
    return cguest_pb2.HandshakeFailure(
        kind=failure.kind.value,
        message=_one_line(failure.message),
        http_status=failure.status,
        problem_type=failure.problem_type,
        detail=failure.detail,
        # A longer one would not fit into a message of ttRPC beside the rest.
        attestation=failure.attestation if len(failure.attestation) <= MAX_ATTESTATION else b"",
        challenge=failure.challenge,
    )


@contextmanager
def failing_as(text: str) -> Iterator[None]:
    """Turn the errors that have a reason for people into the reference's code 13 and text."""
    try:
        yield
    except (AgentError, TdxError, KbsError, KeywrapError) as error:
        raise _status_error(Code.INTERNAL, text, error) from error


def _status_error(code: Code, text: str, error: Exception) -> StatusError:
    cause = error.noted if isinstance(error, ResourceUriError) else error
    log.warning("request failed", answer=text, cause=cause)
    refused = isinstance(error, KbsError) and error.decided
    return StatusError(code, f"{text}: {_one_line(str(error))}", refused=refused)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_REASON]


def _code_of(error: Exception) -> Code:
    """The code of our own services, which tells refused from out of order."""
    match error:
        case KbsRefusedError() | HandshakeHeldError(decided=True):
            return Code.PERMISSION_DENIED
        case HandshakeHeldError() | KbsUnreachableError() | KbsTlsError() | KbsTimeoutError():
            return Code.UNAVAILABLE
        case _:
            return Code.INTERNAL


def _refuse_older_events(request: aa.ExtendRuntimeMeasurementRequest) -> None:
    """Refuse the request of v0.9, whose field 1 was a list of events.

    Read as today's it has a domain and nothing else. Answered with "not enabled" its caller, who
    knows no such answer, would believe that the events are measured.
    """
    if request.Domain and not request.Operation and not request.Content:
        got = "none: this looks like Events, the request of guest-components v0.9"
        raise MeasuredEventError("operation", "a name", got=got)


def _seconds_left(context: CallContext) -> float | None:
    if context.deadline is None:
        return None
    left = context.deadline - asyncio.get_running_loop().time()
    return max(left - REPLY_SECONDS, left / 2)


def _labelled_from(context: CallContext) -> bytes | None:
    """Return the original of labelled data. Anything else than base64 is no original."""
    values = context.metadata.get(LABELLED_KEY, ())
    try:
        return base64.b64decode(values[0], validate=True) if values else None
    except ValueError:
        return None
