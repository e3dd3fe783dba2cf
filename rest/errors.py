"""What the REST server fails at, and the texts of the reference that its answers begin with.

RestError
|- RestConfigError       a setting that cannot work
|- CallerUnknownError    who calls cannot be found out, so it is nobody in particular
|- OverLimitError        a caller, or all of them, ask for more than the limits allow
`- BackendError          the attestation agent or the data hub did not give an answer
"""

from __future__ import annotations

from typing import Final

MAX_CAUSE: Final = 700  # characters; the backends' own limit

# guest-components api-server-rest/src/client/ttrpc_client.rs
REQUEST_FAILED: Final = "ttrpc request error"
FAILED_AFTER_RECONNECT: Final = "ttrpc request error after reconnect"
CONNECT_FAILED: Final = "ttrpc connect to {service} addr: {address} failed"


class RestError(Exception):
    """Base of all errors of this package. ``hint`` says what can be done about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class RestConfigError(RestError):
    """A setting cannot work."""

    def __init__(self, key: str, problem: str, *, hint: str = "") -> None:
        self.key = key
        super().__init__(f"REST server, {key}: {problem}", hint=hint)


class CallerUnknownError(RestError):
    """Nothing certain is known of a caller. ``problem`` is told to it."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"REST caller: {problem}")


class OverLimitError(RestError):
    """A request was not admitted. ``callers`` tells a caller's own limit from everybody's."""

    def __init__(self, limit: str, retry_after: int, *, callers: bool) -> None:
        self.retry_after = retry_after
        self.callers = callers
        super().__init__(f"too many {limit}, try again in {retry_after} s")


class BackendError(RestError):
    """No answer from a backend. ``outer`` is the reference's text, ``cause`` is ours.

    Both go to the caller, so neither holds a secret of ours; ``cause`` is cut and made one line. It
    may quote what the caller sent, so logs get ``noted`` instead where the two differ.
    """

    def __init__(self, outer: str, cause: str, *, noted: str | None = None) -> None:
        self.outer = outer
        line = "".join(c if c.isprintable() else " " for c in cause[:MAX_CAUSE])
        self.cause = line.strip() or "no cause given"
        super().__init__(f"{outer}: {self.cause}")
        self.noted = str(self) if noted is None else f"{outer}: {noted}"
