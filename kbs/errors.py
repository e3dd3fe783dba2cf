"""Everything that can go wrong between this guest and its Key Broker Service (KBS).

The tree groups by who is at fault: the way to the KBS, the KBS breaking the protocol, the KBS
saying no, input of our own caller. Messages say what was attempted, what happened and, as a hint,
what a person can do. No class ever holds a secret, a token or unbounded text of a peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self


class KbsError(Exception):
    """Base of all errors of this package.

    ``attempted`` says what was being done and with whom, ``problem`` what came of it, ``hint``
    what a person can do. ``attempts`` and ``first_cause`` tell of retries that were given up.
    """

    def __init__(self, problem: str, *, attempted: str = "", hint: str = "") -> None:
        self.problem = problem
        self.attempted = attempted
        self.hint = hint
        self.attempts = 1
        self.first_cause: KbsError | None = None
        super().__init__(problem)

    @property
    def decided(self) -> bool:
        """Whether somebody who may decide said no; what failed on the way decided nothing."""
        return False

    def during(self, attempted: str) -> Self:
        """Say what was attempted, for errors of code that knows no addresses; return the error."""
        self.attempted = attempted
        return self

    def after(self, attempts: int, first_cause: KbsError) -> Self:
        """Say that this ended so many attempts, and how the first one failed; return the error."""
        self.attempts = attempts
        self.first_cause = None if first_cause is self else first_cause
        return self

    def __str__(self) -> str:
        text = f"{self.attempted}: {self.problem}" if self.attempted else self.problem
        if self.attempts > 1:
            text += f" (gave up after {self.attempts} attempts"
            if self.first_cause is not None and self.first_cause.problem != self.problem:
                text += f", the first failed with: {self.first_cause.problem}"
            text += ")"
        return f"{text}; hint: {self.hint}" if self.hint else text


class KbsUnreachableError(KbsError):
    """No connection, or it was lost before the whole answer had arrived.

    ``no_network`` tells that the attempt did not leave this guest: no route or no name server.
    """

    def __init__(
        self, problem: str, *, attempted: str = "", hint: str = "", no_network: bool = False
    ) -> None:
        self.no_network = no_network
        super().__init__(problem, attempted=attempted, hint=hint)


class KbsTlsError(KbsError):
    """The KBS could not be authenticated, or the trust anchors given cannot be used."""


class KbsTimeoutError(KbsError):
    """No whole answer within ``seconds``."""

    missing = "no complete answer"
    default_hint = "see whether the KBS is overloaded or the network drops packets"

    def __init__(self, seconds: float, *, attempted: str = "") -> None:
        self.seconds = seconds
        super().__init__(
            f"{self.missing} within {seconds:.3g} s", attempted=attempted, hint=self.default_hint
        )


class EvidenceTimeoutError(KbsTimeoutError):
    """The attester made no evidence within ``seconds``; the KBS is not to blame."""

    missing = "the attester gave no evidence"
    default_hint = "see the attestation agent's log; a quote takes about a second"


class SessionTimeoutError(KbsTimeoutError):
    """No attested session within ``seconds``: its handshake is still under way."""

    missing = "no attested session"
    default_hint = "see the attestation agent's log; its handshake or its quote takes too long"


class KbsClosedError(KbsError):
    """The client was closed while something was still asked of it."""

    def __init__(self, *, attempted: str = "") -> None:
        super().__init__("the KBS client is closed", attempted=attempted)


class KbsUrlError(KbsError):
    """The configured address of the KBS cannot be used."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the KBS URL is not usable: {problem}",
            hint="write it as https://host[:port][/path], without user name, query or fragment",
        )


class KbsProtocolError(KbsError):
    """The KBS, or something in front of it, answered what the protocol does not allow."""


class AnswerTooLongError(KbsProtocolError):
    """A good answer that is longer than its kind may be."""

    def __init__(self, limit_bytes: int, *, attempted: str = "") -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the answer is longer than {limit_bytes} bytes",
            attempted=attempted,
            hint="see that the URL is that of a KBS",
        )


class ResourceTooLargeError(KbsError):
    """The resource is larger than this guest is willing to hold in memory."""

    def __init__(self, limit_bytes: int, *, attempted: str = "") -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the resource is larger than the limit of {limit_bytes} bytes",
            attempted=attempted,
            hint="store bulk data elsewhere and keep only its key in the KBS, or raise the limit",
        )


# A KBS says no with 401 (Trustee sends it for nearly everything); what stands before it, with 403.
DECIDING_STATUSES: Final = frozenset({401, 403})


class KbsRefusedError(KbsError):
    """The KBS answered and said no, in a way none of the subclasses covers.

    ``status`` is the HTTP status, ``problem_type`` the last part of the problem's ``type`` (empty
    if the answer had none), ``detail`` the KBS's own words, cut and cleaned. ``retry_after`` is
    the wait in seconds that the server asked for.
    """

    summary = "refused by the KBS"
    default_hint = "the log of the KBS tells the cause"
    speaker = "KBS"

    def __init__(
        self,
        status: int,
        problem_type: str,
        detail: str,
        *,
        attempted: str = "",
        hint: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.problem_type = problem_type
        self.detail = detail
        self.retry_after = retry_after
        words = f"{problem_type or f'HTTP {status}'} {detail!r}" if detail else problem_type
        super().__init__(
            f"{self.summary} ({self.speaker}: {words or f'HTTP {status}'})",
            attempted=attempted,
            hint=hint or self.default_hint,
        )

    @property
    def decided(self) -> bool:
        """Whether somebody who may decide said no; a server that failed did not decide."""
        return self.status in DECIDING_STATUSES


class AttestationRefusedError(KbsRefusedError):
    """The handshake was refused. ``expected_version`` is set if the protocol version was why.

    ``challenge`` is the answer to ``/auth`` and ``attestation`` the body of the ``/attest`` that
    was refused: nonce, public key and evidence. Empty where the handshake did not come to them.
    """

    summary = "attestation refused"
    default_hint = (
        "look in the log of the KBS for the cause: nonce, quote, register or reference value"
    )

    def __init__(
        self,
        status: int,
        problem_type: str,
        detail: str,
        *,
        attempted: str = "",
        hint: str = "",
        retry_after: float | None = None,
        expected_version: str | None = None,
    ) -> None:
        self.expected_version = expected_version
        self.challenge = b""
        self.attestation = b""
        super().__init__(
            status,
            problem_type,
            detail,
            attempted=attempted,
            hint=hint,
            retry_after=retry_after,
        )


class ServiceRefusedError(KbsRefusedError):
    """An attestation service, asked without a KBS, gave no token."""

    summary = "no token from the attestation service"
    default_hint = "the log of the attestation service tells the cause"
    speaker = "attestation service"


class PolicyDeniedError(KbsRefusedError):
    """The resource policy says no. A new attestation of the same guest cannot change that."""

    summary = "refused by resource policy"
    default_hint = (
        "compare the token's claims with the KBS's resource policy; "
        "a register or reference value may differ"
    )


class ResourceMissingError(KbsRefusedError):
    """There is no such resource, or its plugin failed: the KBS does not tell the two apart."""

    summary = "resource missing, or refused by the KBS's plugin"
    default_hint = "check the path, and that the resource was stored in this KBS"


class TokenRefusedError(KbsRefusedError):
    """The attestation token is missing, expired or not trusted; a new handshake may help."""

    summary = "attestation token refused"
    default_hint = "see whether the KBS trusts the signer of its own tokens, and both clocks"


class JweError(KbsError):
    """A resource answer could not be opened.

    One message for every cryptographic cause (wrong key, wrong tag, bad point, bad wrap), because
    whoever can alter the answer must not learn which step failed.
    """

    def __init__(
        self,
        problem: str = "the resource answer cannot be opened with this session's key",
        *,
        attempted: str = "",
    ) -> None:
        super().__init__(
            problem,
            attempted=attempted,
            hint="it was altered on the way, or sealed for another session's key",
        )


class JweFormatError(JweError):
    """The answer is not a JWE that this client accepts; known before any key is used."""

    def __init__(self, reason: str, *, attempted: str = "") -> None:
        self.reason = reason
        super().__init__(
            f"the resource answer is not an acceptable JWE: {reason}", attempted=attempted
        )


class ResourceUriError(KbsError):
    """The text is not a KBS resource URI. ``uri`` is the text, cut to a bounded length.

    ``noted`` is the message for logs and receipts, without the text: it may be a secret that was
    sent to the wrong place.
    """

    def __init__(self, uri: str, problem: str, *, hint: str = "") -> None:
        self.uri = uri[:200]
        self.noted = f"not a KBS resource URI: {problem}"
        super().__init__(
            f"{self.uri!r}: {problem}",
            attempted="reading a KBS resource URI",
            hint=hint or "write kbs:///<repository>/<type>/<tag>",
        )


class TeeKeyError(KbsError):
    """A TEE key is of a kind that cannot be used here, or its PEM cannot be read."""

    def __init__(
        self,
        problem: str,
        *,
        attempted: str = "reading a TEE key",
        hint: str = "EC P-256 or P-521 as PKCS#8 PEM, or RSA as PKCS#1 PEM",
    ) -> None:
        super().__init__(problem, attempted=attempted, hint=hint)


class AaJsonError(KbsError):
    """The attestation agent's ``GetToken`` reply is not of the form that is agreed."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            problem,
            attempted="reading the attestation agent's token reply",
            hint='the reply must be {"token": JWT, "tee_keypair": PEM}; ask for token type "kbs"',
        )


class HandshakeHeldError(KbsError):
    """No handshake is tried at the moment, because the last ones failed.

    ``retry_in`` is in seconds, ``failures`` counts those in a row. ``transient`` tells whether
    the last one failed on the way to the KBS, and not by its will.
    """

    def __init__(
        self,
        retry_in: float,
        failures: int,
        first_problem: str,
        last_problem: str,
        *,
        decided: bool,
        transient: bool,
        attempted: str = "",
        hint: str = "",
    ) -> None:
        self.retry_in = retry_in
        self.failures = failures
        self.transient = transient
        self._decided = decided
        since = "" if first_problem == last_problem else f", the first with: {first_problem}"
        times = "1 time" if failures == 1 else f"{failures} times in a row"
        super().__init__(
            f"{last_problem} (failed {times}{since}; not tried again for another {retry_in:.1f} s)",
            attempted=attempted,
            hint=hint,
        )

    @property
    def decided(self) -> bool:
        """Whether the KBS had said no."""
        return self._decided


class NoKbsAnsweredError(KbsError):
    """Every address of the key broker was tried. ``causes`` has one line for each, in order."""

    def __init__(self, causes: Sequence[str], *, attempted: str) -> None:
        self.causes = tuple(causes)
        super().__init__(
            f"none of {len(causes)} key brokers answered ({'; '.join(causes)})",
            attempted=attempted,
            hint="see that one of them runs and that this guest has a way to it",
        )


class UnknownKbsError(KbsError):
    """The host part of a resource URI names no key broker that is configured."""

    def __init__(self, uri: str, address: str, known: Sequence[str]) -> None:
        self.address = address[:200]
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        super().__init__(
            f"no key broker {self.address!r} is configured",
            attempted=f"fetching {uri[:200]}",
            hint=f"known are {shown}; write kbs:///... for the first one",
        )


class HandshakeOrderError(KbsError):
    """A step of the handshake was called out of order: a mistake in this program."""

    def __init__(self, step: str, expected_state: str, state: str) -> None:
        self.step = step
        super().__init__(f"{step} is allowed in state {expected_state!r}, this is {state!r}")
