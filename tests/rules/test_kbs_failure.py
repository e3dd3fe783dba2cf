"""What is remembered of a failed handshake: who ended it, the KBS's words, and no secret."""

from __future__ import annotations

import pytest

from kbs import (
    AttestationRefusedError,
    EvidenceTimeoutError,
    FailureKind,
    KbsError,
    KbsProtocolError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
    PolicyDeniedError,
)
from kbs.failure import failure_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(KbsUnreachableError("no route"), FailureKind.UNREACHABLE, id="unreachable"),
        pytest.param(KbsTlsError("unknown issuer"), FailureKind.TLS, id="tls"),
        pytest.param(KbsTimeoutError(3.0), FailureKind.TIMEOUT, id="timeout"),
        pytest.param(EvidenceTimeoutError(3.0), FailureKind.EVIDENCE, id="slow attester"),
        pytest.param(KbsProtocolError("no cookie"), FailureKind.PROTOCOL, id="protocol"),
        pytest.param(KbsError("no quote"), FailureKind.EVIDENCE, id="evidence"),
        pytest.param(OSError("disk"), FailureKind.EVIDENCE, id="foreign error"),
        pytest.param(PolicyDeniedError(401, "PolicyDeny", "no"), FailureKind.REFUSED, id="policy"),
    ],
)
def test_each_error_is_of_one_kind(error: Exception, kind: FailureKind) -> None:
    failure = failure_of(error)
    assert failure.kind is kind
    assert failure.message == str(error)
    assert failure.attestation == b""


def test_a_refusal_keeps_the_answer_and_what_was_sent() -> None:
    error = AttestationRefusedError(401, "AttestationError", "RCAR handshake Attest failed")
    error.challenge, error.attestation = b'{"nonce":"x"}', b'{"runtime-data":{}}'
    failure = failure_of(error)
    assert (failure.status, failure.problem_type) == (401, "AttestationError")
    assert failure.detail == "RCAR handshake Attest failed"
    assert failure.challenge == error.challenge
    assert failure.attestation == error.attestation
    assert "runtime-data" not in repr(failure)
