"""The KBS's error answers: what each problem ``type`` means to this guest.

The status alone decides nothing: a KBS since v0.11 answers 401 for a refused quote, a policy that
says no, a resource that does not exist and a stale token alike (trustee ``kbs/src/error.rs``).
Names of releases before v0.11 are known too.
"""

from __future__ import annotations

import re
from typing import Final

from kbs.errors import (
    AttestationRefusedError,
    KbsRefusedError,
    PolicyDeniedError,
    ResourceMissingError,
    ServiceRefusedError,
    TokenRefusedError,
)
from kbs.peer_json import PeerTextError, decode_object

MAX_DETAIL_CHARACTERS: Final = 300
MAX_TYPE_CHARACTERS: Final = 64

_MEANINGS: Final[dict[str, type[KbsRefusedError]]] = {
    "AttestationError": AttestationRefusedError,
    "PolicyDeny": PolicyDeniedError,
    "PluginInternalError": ResourceMissingError,
    "PluginNotFound": ResourceMissingError,
    "TokenVerifierError": TokenRefusedError,
    "TokenNotFound": TokenRefusedError,
    # Releases up to v0.10.
    "AttestationFailed": AttestationRefusedError,
    "FailedAuthentication": AttestationRefusedError,
    "ProtocolVersion": AttestationRefusedError,
    "PolicyReject": PolicyDeniedError,
    "ReadSecretFailed": ResourceMissingError,
    "TokenParseFailed": TokenRefusedError,
    "ExpiredCookie": TokenRefusedError,
    "InvalidCookie": TokenRefusedError,
    "MissingCookie": TokenRefusedError,
    "UnAuthenticatedCookie": TokenRefusedError,
}
_STATUS_HINTS: Final = {
    403: "something in front of the KBS refuses this guest; a KBS itself answers 401",
    404: "see that the configured URL is that of a KBS, without the path /kbs/v0",
    413: "more was sent than the KBS takes; if it was evidence, raise its payload_request_size",
    429: "the KBS asks for fewer requests",
}
_TYPE: Final = re.compile(r"[A-Za-z]+", re.ASCII)
# All three generations: "expect =0.4.0 while the request is X", "expected version: =0.1.1,
# requested version: X", and "Invalid Request version X", which does not tell.
_EXPECTED_VERSION: Final = re.compile(r"expect(?:ed version:)? *[<=]*([0-9]+(?:\.[0-9]+){1,2})")
_VERSION_PROBLEM: Final = re.compile(r"Protocol Version Mismatch|Invalid Request version")


def read_refusal(
    status: int, body: bytes, *, attempted: str, client_version: str, retry_after: float | None
) -> KbsRefusedError:
    """Return the error that an answer other than 200 stands for. Takes any bytes."""
    problem_type, detail = _read_problem(body)
    meaning = _MEANINGS.get(problem_type, KbsRefusedError)
    if meaning is AttestationRefusedError:
        expected, hint = _read_version_mismatch(detail, client_version)
        return AttestationRefusedError(
            status,
            problem_type,
            detail,
            attempted=attempted,
            hint=hint,
            retry_after=retry_after,
            expected_version=expected,
        )
    hint = _STATUS_HINTS.get(status, "") if meaning is KbsRefusedError else ""
    return meaning(
        status, problem_type, detail, attempted=attempted, hint=hint, retry_after=retry_after
    )


def read_service_refusal(
    status: int, body: bytes, *, attempted: str, retry_after: float | None
) -> ServiceRefusedError:
    """Return what an attestation service's answer other than 200 stands for. Takes any bytes."""
    problem_type, detail = _read_problem(body)
    return ServiceRefusedError(
        status, problem_type, detail, attempted=attempted, retry_after=retry_after
    )


def _read_version_mismatch(detail: str, client_version: str) -> tuple[str | None, str]:
    """Return the version that the KBS expects, if it tells, and a hint if version is the cause."""
    if not _VERSION_PROBLEM.search(detail):
        return None, ""
    match = _EXPECTED_VERSION.search(detail)
    wanted = f"protocol {match[1]}" if match else "another protocol version"
    hint = f"this KBS speaks {wanted}, this guest {client_version}: change one of them"
    return match[1] if match else None, hint


def is_version_refusal(error: KbsRefusedError) -> bool:
    """Return whether the refusal of ``/auth`` is one of the protocol version.

    Up to v0.9 a KBS expects a text in ``extra-params``, and what newer versions send there
    ends in its HTTP framework: 400, in plain text.
    """
    if isinstance(error, AttestationRefusedError):
        return bool(_VERSION_PROBLEM.search(error.detail))
    return error.status == 400 and not error.problem_type


def clean_text(text: str, limit: int = MAX_DETAIL_CHARACTERS) -> str:
    """Return peer text that is fit for a terminal and a log: printable, one line, bounded."""
    shown = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return shown if len(text) <= limit else shown[:limit] + "…"


def _read_problem(body: bytes) -> tuple[str, str]:
    """Return type and detail; framework errors are plain text and have no type."""
    try:
        members = decode_object(body)
    except PeerTextError:
        return "", clean_text(body.decode("utf-8", "replace").strip())
    type_uri, detail = members.get("type"), members.get("detail")
    name = type_uri.rsplit("/", 1)[-1] if isinstance(type_uri, str) else ""
    if len(name) > MAX_TYPE_CHARACTERS or not _TYPE.fullmatch(name):
        name = ""
    return name, clean_text(detail) if isinstance(detail, str) else ""
