"""What became of the handshake or request: the KBS's answer, or why there was none.

The part ``kbs-answer.json`` is written by ``cguest``, or is an error document of a KBS as it came
(members ``type`` and ``detail``). What problem types mean is :mod:`kbs.problem`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from explain.finding import Code, Finding, Severity
from explain.part_json import json_object
from kbs import (
    AttestationRefusedError,
    KbsRefusedError,
    PolicyDeniedError,
    ResourceMissingError,
    TokenRefusedError,
)
from kbs.payloads import PROTOCOL_VERSION
from kbs.problem import clean_text, read_refusal

NO_ATTESTATION_PROBLEM: Final = "this is no attestation problem: nobody judged the evidence"


@dataclass(frozen=True, slots=True)
class Answer:
    """``outcome`` is ``refused`` or one of the kinds of :class:`kbs.FailureKind`."""

    outcome: str
    message: str
    refusal: KbsRefusedError | None = None
    resource: str = ""


def parse_answer(data: bytes) -> Answer:
    """Read the part. Raises :class:`~explain.errors.BundleError` if it is not a JSON object."""
    members = json_object(data, "kbs-answer.json")
    outcome = _text(members, "outcome") or "refused"
    message = clean_text(_text(members, "message"), 1000)
    resource = clean_text(_text(members, "resource"))
    if outcome != "refused":
        return Answer(outcome, message, None, resource)
    status = members.get("status")
    refusal = read_refusal(
        status if isinstance(status, int) else 401,
        data,  # its members type and detail are those of an error document
        attempted="",
        client_version=PROTOCOL_VERSION,
        retry_after=None,
    )
    return Answer(outcome, message, refusal, resource)


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""


def explain_answer(answer: Answer) -> Iterator[Finding]:
    """Yield what the outcome itself says; why evidence was refused, the other rules find."""
    if answer.refusal is not None:
        yield _refused(answer.refusal, answer.resource)
        return
    code, found, advice = _OUTAGES.get(answer.outcome, _UNKNOWN)
    yield Finding(code, Severity.OUTAGE, found, advice, got=answer.message)


_UNKNOWN: Final = (
    Code.EVIDENCE_FAILED,
    "the handshake failed in the guest, before a KBS could judge",
    "read the message, and the log of the attestation agent",
)
_OUTAGES: Final = {
    "unreachable": (
        Code.KBS_UNREACHABLE,
        f"the KBS was not reached; {NO_ATTESTATION_PROBLEM}",
        "check address, DNS, route and firewall (cguest doctor), and that the KBS runs",
    ),
    "tls": (
        Code.KBS_TLS,
        f"the KBS could not be authenticated by its certificate; {NO_ATTESTATION_PROBLEM}",
        (
            "check that the CA given to the guest (token_configs.kbs.cert) signed the certificate, "
            "that the name in the URL is in it, and the guest's clock"
        ),
    ),
    "timeout": (
        Code.KBS_TIMEOUT,
        f"the KBS did not answer in time; {NO_ATTESTATION_PROBLEM}",
        "look whether the KBS is overloaded or cannot reach its collateral service",
    ),
    "protocol": (
        Code.KBS_PROTOCOL,
        f"what answered does not speak the KBS protocol; {NO_ATTESTATION_PROBLEM}",
        "check that the URL is that of a KBS, and what stands in front of it",
    ),
    "evidence": _UNKNOWN,
}


def _refused(refusal: KbsRefusedError, resource: str) -> Finding:
    got = f"{refusal.problem_type or f'HTTP {refusal.status}'} {refusal.detail}".strip()
    match refusal:
        case AttestationRefusedError(expected_version=str(version)):
            return _version(version, got)
        case AttestationRefusedError(hint=hint) if hint != AttestationRefusedError.default_hint:
            return _version("another version", got)
        case AttestationRefusedError():
            code = Code.ATTESTATION_REFUSED
            found = "the KBS does not accept the evidence; it keeps the cause to its log"
            advice = "see the other findings; if there are none, ask the KBS's operator for its log"
        case PolicyDeniedError():
            code = Code.POLICY_DENIED
            found = f"attested, but the resource policy says no{_for(resource)}"
            advice = "compare the claims below with the policy; another attestation changes nothing"
        case ResourceMissingError():
            code = Code.RESOURCE_MISSING
            found = f"attested, but there is no such resource, or its plugin failed{_for(resource)}"
            advice = "check the path and store the resource in this KBS"
        case TokenRefusedError():
            code = Code.TOKEN_REFUSED
            found = "the KBS does not accept its token (expired, or of another signer)"
            advice = "attest again; if it repeats, compare both clocks and whether the KBS was "
            advice += "restarted with an ephemeral signing key"
        case _:
            code = Code.KBS_REFUSED
            found = "something refused the request, and not for the evidence"
            advice = refusal.hint
    return Finding(code, Severity.REFUSAL, found, advice, got=got)


def _for(resource: str) -> str:
    return f" for {resource}" if resource else ""


def _version(expected: str, got: str) -> Finding:
    return Finding(
        Code.PROTOCOL_VERSION,
        Severity.REFUSAL,
        "the KBS speaks another protocol version, so it never saw the evidence",
        "let guest and KBS be of releases that speak the same version; 0.4.0 is Trustee v0.14 and "
        "later",
        expected=expected,
        got=got,
    )
