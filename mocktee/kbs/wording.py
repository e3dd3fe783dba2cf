"""Refusals in the words of each server generation: status, variant and text of the document.

The errors of :mod:`mocktee.kbs.errors` speak as the newest server does; this is what the earlier
ones say instead (trustee src/api/src/http/error.rs at v0.8.0, kbs/src/http/error.rs at v0.10.0,
kbs/src/error.rs at v0.11.0). Up to v0.10 the cause of most refusals is in the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mocktee.kbs import errors
from mocktee.kbs.era import V0_10, Era, Wording

NO_BEARER: Final = "Failed to parse HTTP Auth Bearer header"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error document, before the mock adds a reason to it."""

    status: int
    variant: str
    detail: str


def word(error: errors.ProblemError, era: Era) -> Problem:
    """Return the document that a server of ``era`` answers with."""
    match era.wording:
        case Wording.PER_CALL:
            return _per_call(error, era)
        case Wording.PLUGINS:
            return _plugins(error)
        case Wording.HEAD:
            return Problem(error.status, error.variant, error.detail)


def _plugins(error: errors.ProblemError) -> Problem:
    match error:
        case errors.AdminRefusedError() | errors.PluginAdminRefusedError():
            unread = error.cause == NO_BEARER
            cause = NO_BEARER if unread else "Admin Token verification failed"
            return Problem(error.status, "AdminAuth", f"Admin auth error: {cause}")
        case errors.PolicyTextError() | errors.PolicyEngineError():
            return Problem(error.status, "PolicyEngine", "Policy engine error")
        case _:
            return Problem(error.status, error.variant, error.detail)


def _per_call(error: errors.ProblemError, era: Era) -> Problem:
    if isinstance(error, errors.VersionRefusedError):
        return _version_refused(error, era)
    for kind, variant, text in _PER_CALL:
        if isinstance(error, kind):
            status = 404 if variant == "ReadSecretFailed" else 401
            return Problem(status, variant, text(error.cause))
    return Problem(401, "InvalidRequest", f"The request is invalid: {error.cause}")


def _version_refused(error: errors.VersionRefusedError, era: Era) -> Problem:
    if era.name == V0_10.name:
        return Problem(
            401,
            "ProtocolVersion",
            "KBS Client Protocol Version Mismatch: "
            f"expected version: {error.requirement}, requested version: {error.got}",
        )
    return Problem(
        401,
        "FailedAuthentication",
        f"Authentication failed: Session: Invalid Request version {error.got}",
    )


def _after(prefix: str) -> Callable[[str], str]:
    return lambda cause: f"{prefix}: {cause}"


def _only(text: str) -> Callable[[str], str]:
    return lambda _cause: text


def _admin(cause: str) -> str:
    said = "parse Authorization header" if cause == NO_BEARER else "token verification"
    return f"Authentication failed: Requester is not an authorized user: {said} failed"


_NO_FILE: Final = "Read secret failed: read resource from local fs"
# The first kind that fits decides.
_PER_CALL: Final[tuple[tuple[type[errors.ProblemError], str, Callable[[str], str]], ...]] = (
    (
        errors.AuthRefusedError,
        "FailedAuthentication",
        _after("Authentication failed: Session"),
    ),
    (errors.CookieMissingError, "MissingCookie", _only("The cookie is missing")),
    (errors.CookieUnknownError, "InvalidCookie", _only("The cookie is invalid")),
    (errors.CookieExpiredError, "ExpiredCookie", _only("The cookie is expired")),
    (errors.AttestRefusedError, "AttestationFailed", _after("Attestation failed")),
    (errors.SetPolicyRefusedError, "PolicyEndpoint", _after("Policy error: Set policy error")),
    (errors.PolicyTextError, "PolicyEndpoint", _after("Policy error")),
    (errors.PolicyDeniedError, "PolicyReject", _only("Resource not permitted.")),
    (
        errors.PolicyEngineError,
        "PolicyEngineFailed",
        _after("Resource policy engine evaluate failed"),
    ),
    # What is no path today was a file that is not there.
    (errors.ResourceMissingError, "ReadSecretFailed", _only(_NO_FILE)),
    (errors.ResourcePathError, "ReadSecretFailed", _only(_NO_FILE)),
    (errors.PluginFailedError, "SetSecretFailed", _after("Set secret failed")),
    (
        errors.TokenMissingError,
        "InvalidRequest",
        _only("The request is invalid: parse Authorization header failed: invalid Header provided"),
    ),
    (
        errors.TokenKeyError,
        "AttestationClaimsParseFailed",
        _after("Received illegal attestation claims"),
    ),
    (
        errors.TokenRefusedError,
        "TokenParseFailed",
        _after("Received an illegal token: verify token failed"),
    ),
    (errors.EncryptionFailedError, "JWEFailed", _after("Json Web Encryption failed")),
    (errors.AdminRefusedError, "FailedAuthentication", _admin),
    (errors.PluginAdminRefusedError, "FailedAuthentication", _admin),
)
