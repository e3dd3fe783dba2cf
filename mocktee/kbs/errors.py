"""Errors of the mock KBS: what a peer is told, and why evidence was refused.

A :class:`ProblemError` is one error document of the protocol (KBS protocol 0.4.0, error
information): status, ``type`` suffix and the exact text of Trustee. What Trustee only writes to its
own log travels as ``reason``, and the server decides whether to show it.
"""

from __future__ import annotations

from typing import ClassVar, Final

from mocktee.errors import MockTeeError

TYPE_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"
MAX_REASON: Final = 1024  # characters; parts of it may come from the peer


class MockKbsError(MockTeeError):
    """Base of all errors of the mock KBS."""


class MalformedError(MockKbsError, ValueError):
    """Bytes of a peer that are not what the protocol says; the message names the part."""


class StartError(MockKbsError):
    """The child process of the mock KBS did not become ready."""

    hint: ClassVar[str] = "run `python -m mocktee.kbs --help` and look at its standard error"

    def __init__(self, got: str) -> None:
        self.got = got
        super().__init__(f"starting the mock KBS failed: expected its ready line, got {got}")


class ControlError(MockKbsError):
    """The running mock KBS refused a call of its admin or control interface."""

    def __init__(self, call: str, status: int, body: str) -> None:
        self.call = call
        self.status = status
        super().__init__(f"{call} at the mock KBS answered {status}: {body[:MAX_REASON]}")


class FaultFormatError(MockKbsError):
    """The JSON form of a fault switch is not understood."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(f"fault refused: {cause}")


class UnknownEraError(MockKbsError, ValueError):
    """No server generation of that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        super().__init__(f"era {name[:32]!r} is not known; there are {', '.join(known)}")


class EraOptionError(MockKbsError, ValueError):
    """An option that servers of this generation do not have."""

    def __init__(self, era: str, option: str) -> None:
        self.era = era
        super().__init__(f"era {era} does not have {option}")


class FrameworkRefusedError(MockKbsError):
    """The web framework answers before the KBS sees the request, in plain text or not at all."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = status
        self.text = text
        super().__init__(f"the framework answers {status}: {text}")


class HandlerPanicError(MockKbsError):
    """The handler of the real server panics here, so the connection ends without an answer."""


class EvidenceRefusedError(MockKbsError):
    """Evidence does not parse, is not authentic, or says the wrong thing; ``reason`` tells."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ProblemError(MockKbsError):
    """A refusal with the protocol's error document."""

    variant: ClassVar[str]
    status: ClassVar[int] = 401  # Trustee answers 401 for nearly everything

    def __init__(self, detail: str, reason: str = "") -> None:
        self.detail = detail
        self.reason = reason[:MAX_REASON]
        self.cause = self.reason or detail
        super().__init__(f"{detail}: {self.reason}" if reason else detail)


class AuthRefusedError(ProblemError):
    """POST /auth. Trustee shows this cause."""

    variant = "AttestationError"

    def __init__(self, cause: str) -> None:
        super().__init__(f"Attestation error: RCAR handshake Auth failed: {cause[:MAX_REASON]}")
        self.cause = cause[:MAX_REASON]


class VersionRefusedError(AuthRefusedError):
    """The client speaks another protocol version."""

    def __init__(self, requirement: str, got: str) -> None:
        self.requirement = requirement
        self.got = got
        super().__init__(
            f"KBS Client Protocol Version Mismatch: expect {requirement} while the request is {got}"
        )


class AttestRefusedError(ProblemError):
    """POST /attest. Trustee hides this cause."""

    variant = "AttestationError"

    def __init__(self, reason: str) -> None:
        super().__init__("Attestation error: RCAR handshake Attest failed", reason)


class CookieMissingError(AttestRefusedError):
    """POST /attest without the session cookie."""

    def __init__(self) -> None:
        super().__init__("cookie not found")


class CookieUnknownError(AttestRefusedError):
    """POST /attest with the cookie of no session."""

    def __init__(self) -> None:
        super().__init__("session not found, or expired")


class CookieExpiredError(AttestRefusedError):
    """POST /attest with the cookie of a session whose time is over."""

    def __init__(self) -> None:
        super().__init__("session not found, or expired")


class SetPolicyRefusedError(ProblemError):
    """POST /attestation-policy."""

    variant = "AttestationError"

    def __init__(self, reason: str) -> None:
        super().__init__("Attestation error: Set Attestation Policy failed", reason)


class PolicyDeniedError(ProblemError):
    """The resource policy said no."""

    variant = "PolicyDeny"

    def __init__(self, reason: str) -> None:
        super().__init__("Access denied by policy", reason)


class PolicyTextError(ProblemError):
    """POST /resource-policy whose body holds no policy."""

    variant = "ParsePolicyError"

    def __init__(self, cause: str) -> None:
        super().__init__(f"Failed to parse policy: {cause}")
        self.cause = cause


class PolicyEngineError(ProblemError):
    """Rego does not compile or does not evaluate."""

    variant = "PolicyEngineError"

    def __init__(self, cause: str) -> None:
        super().__init__(f"Policy engine error: {cause[:MAX_REASON]}")
        self.cause = cause[:MAX_REASON]


class PluginNotFoundError(ProblemError):
    """The first path segment names no plugin."""

    variant = "PluginNotFound"
    status = 404

    def __init__(self, plugin: str) -> None:
        super().__init__(f"Plugin {plugin[:64]} not found")


class PluginFailedError(ProblemError):
    """No such resource, a malformed path, or a method the plugin does not have."""

    variant = "PluginInternalError"

    def __init__(self, reason: str) -> None:
        super().__init__("Plugin internal error", reason)


class ResourceMissingError(PluginFailedError):
    """There is no such resource."""


class ResourcePathError(PluginFailedError):
    """The path is not one of a resource."""


class TokenMissingError(ProblemError):
    """Neither an attested session nor a bearer token."""

    variant = "TokenNotFound"

    def __init__(self) -> None:
        super().__init__("Attestation Token not found")


class TokenRefusedError(ProblemError):
    """The token is expired, forged, of another signer, or holds no TEE key."""

    variant = "TokenVerifierError"

    def __init__(self, reason: str) -> None:
        super().__init__("Token Verifier error", reason)


class TokenKeyError(TokenRefusedError):
    """The token is genuine, but the TEE key in it is missing or no key."""


class EncryptionFailedError(ProblemError):
    """No response can be encrypted to the TEE key of the token."""

    variant = "JweError"

    def __init__(self, reason: str) -> None:
        super().__init__("JWE failed", reason)


class AdminRefusedError(ProblemError):
    """An admin call without the right credential."""

    variant = "AdminAuthAccess"

    def __init__(self, endpoint: str, cause: str) -> None:
        super().__init__(f"admin access denied for endpoint {endpoint}: {cause}")
        self.cause = cause


class PluginAdminRefusedError(ProblemError):
    """The same at the resource plugin, where Trustee converts to another variant."""

    variant = "AdminAuthInitialization"

    def __init__(self, cause: str) -> None:
        super().__init__(f"failed to initialize [admin] configuration: {cause}")
        self.cause = cause


class ReferenceValueError(ProblemError):
    """A reference value message that is malformed or names nothing this verifier compares."""

    variant = "RvpsError"

    def __init__(self, cause: str, reason: str = "") -> None:
        super().__init__(f"RVPS configuration failed: {cause}", reason)


class RegistrationError(ReferenceValueError):
    """A registration whose cause Trustee keeps to its log."""

    def __init__(self, reason: str) -> None:
        super().__init__("Failed to register reference value: register reference value", reason)
